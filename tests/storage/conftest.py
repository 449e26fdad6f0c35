"""Places to store files in: a folder, and buckets of two services; proxies that break the way to them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest
from botocore.retries import standard

from event_archive.storage.cache import LocalCache
from event_archive.storage.folder import FolderStore
from event_archive.storage.s3 import S3Settings, S3Store
from tests.storage.fault_proxy import FaultProxy, running_proxy
from tests.storage.servers import (
    ACCESS_KEY,
    SECRET_KEY,
    Server,
    ServerUnavailable,
    running_gateway,
    running_moto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from event_archive.storage.store import Store

SERVERS = {"moto": running_moto, "gateway": running_gateway}


class NewStore(Protocol):
    """Makes stores of one bucket."""

    def __call__(
        self, *, endpoint_url: str | None = None, bucket: str | None = None, prefix: str = "an/archive"
    ) -> S3Store:
        """One that shares nothing with those made before."""
        ...


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server | str]]:
    """Each server by its name, started when first asked for; a reason instead of one that can't be had."""
    with contextlib.ExitStack() as held:

        class Servers(dict[str, "Server | str"]):
            def __missing__(self, name: str) -> Server | str:
                folder = tmp_path_factory.mktemp(name)
                try:
                    self[name] = held.enter_context(SERVERS[name](folder))
                except ServerUnavailable as reason:
                    self[name] = str(reason)
                return self[name]

        yield Servers()


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials, and nothing else of this machine's AWS configuration."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws_config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws_credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=sorted(SERVERS))
def server(
    request: pytest.FixtureRequest, running_servers: dict[str, Server | str], aws_environment: None
) -> Server:
    """Each of the services in turn."""
    found = running_servers[request.param]
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture
def new_store(server: Server, tmp_path: Path) -> NewStore:
    """Makes stores of one new bucket."""
    shared = server.new_bucket()

    def new(
        *, endpoint_url: str | None = None, bucket: str | None = None, prefix: str = "an/archive"
    ) -> S3Store:
        settings = S3Settings(endpoint_url=endpoint_url or server.endpoint_url)
        return S3Store(
            bucket or shared, prefix, settings=settings, cache=LocalCache(tmp_path / "cache", 64 << 20)
        )

    return new


@pytest.fixture(params=["folder", *sorted(SERVERS)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of place in turn, empty."""
    if request.param == "folder":
        return FolderStore(tmp_path / "archive")
    request.getfixturevalue("aws_environment")
    found = request.getfixturevalue("running_servers")[request.param]
    if isinstance(found, str):
        pytest.skip(found)
    return S3Store(
        found.new_bucket(),
        "an/archive",
        settings=S3Settings(endpoint_url=found.endpoint_url),
        cache=LocalCache(tmp_path / "cache", 256 << 20),
    )


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """A proxy to the service that breaks what it is told to."""
    with running_proxy(server.endpoint_url) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts are a hundred times shorter, and so is what counts as slow."""
    slow = standard.ExponentialBackoff.delay_amount
    monkeypatch.setattr(
        standard.ExponentialBackoff, "delay_amount", lambda self, context: slow(self, context) / 100
    )
    monkeypatch.setattr("event_archive.storage.s3._PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("event_archive.storage.s3_connection.READ_TIMEOUT_SECONDS", 1)
