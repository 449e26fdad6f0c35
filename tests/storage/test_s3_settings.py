"""What can be wrong with a bucket, its settings and credentials: a sentence for each, and never a secret in it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import ConfigurationError, EventArchiveError, StorageError
from event_archive.storage.cache import LocalCache
from event_archive.storage.s3 import S3Settings, S3Store
from tests.storage.servers import SECRET_KEY

if TYPE_CHECKING:
    from tests.storage.conftest import NewStore
    from tests.storage.fault_proxy import FaultProxy
    from tests.storage.servers import Server

WRITERS = """
import sys
from pathlib import Path
from event_archive.storage.cache import LocalCache
from event_archive.storage.s3 import S3Settings, S3Store
endpoint_url, bucket, writer, folder = sys.argv[1:]
settings = S3Settings(endpoint_url=endpoint_url)
store = S3Store(bucket, "race", settings=settings, cache=LocalCache(Path(folder), 1))
print(*(name for name in map(str, range(60)) if store.put_new(name, (writer + name).encode())))
"""


def a_store(bucket: str = "a-bucket", **settings: Any) -> S3Store:
    """A store that nobody has asked anything."""
    return S3Store(bucket, "archive", settings=S3Settings(**settings), cache=LocalCache(Path("nowhere"), 1))


def test_of_many_processes_exactly_one_wins_each_name(server: Server, tmp_path: Path) -> None:
    """All names are won, none twice."""
    bucket = server.new_bucket()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, server.endpoint_url, bucket, f"writer {number}: ", str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    won = [name for process in processes for name in process.communicate(timeout=120)[0].split()]
    assert sorted(won, key=int) == [str(number) for number in range(60)]


def test_a_bucket_that_is_not_there_is_named(server: Server) -> None:
    """Whatever is asked of it first."""
    store = a_store("no-such-bucket", endpoint_url=server.endpoint_url)
    for ask in (lambda: store.names(""), lambda: store.read("x"), lambda: store.put_new("x", b"")):
        with pytest.raises(ConfigurationError, match=r"no-such-bucket.*no such bucket"):
            ask()


def test_a_wrong_secret_is_said_without_the_secret(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto doesn't compare signatures."""
    if server.name == "moto":
        pytest.skip("moto takes any credentials")
    bucket = server.new_bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(ConfigurationError, match="SignatureDoesNotMatch") as error:
        a_store(bucket, endpoint_url=server.endpoint_url).names("")
    assert "wrong-secret" not in str(error.value)


def test_missing_credentials_are_said(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match=r"no AWS credentials.*AWS_ACCESS_KEY_ID"):
        a_store(endpoint_url="http://127.0.0.1:9").names("")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"profile": "nobody"}, "s3.profile.*nobody"),
        ({"endpoint_url": "localhost"}, "s3.endpoint_url"),
        ({"endpoint_url": "http://user:secret-word@localhost"}, "s3.endpoint_url.*password"),
    ],
)
def test_settings_that_can_not_be_right_name_their_key(
    aws_environment: None, settings: dict[str, str], sentence: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=sentence) as error:
        a_store(**settings).read("x")
    assert "secret-word" not in str(error.value)


@pytest.mark.usefixtures("impatient")
def test_nobody_listening_is_said(aws_environment: None) -> None:
    """With the endpoint, and not as a missing file."""
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9.*doesn't answer"):
        a_store(endpoint_url="http://127.0.0.1:9").names("")


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("AccessDenied", StorageError, "may not do this"),
        ("ExpiredToken", StorageError, "new credentials"),
        ("AuthorizationHeaderMalformed", ConfigurationError, "s3.region"),
        ("PermanentRedirect", ConfigurationError, "s3.region"),
        ("RequestTimeTooSkewed", StorageError, "clock"),
        ("InvalidAccessKeyId", ConfigurationError, "check the credentials"),
        ("SomethingElse", StorageError, "SomethingElse"),
    ],
)
def test_each_refusal_has_its_remedy(  # noqa: PLR0917 - pytest passes them by name
    new_store: NewStore,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    kind: type[EventArchiveError],
    sentence: str,
) -> None:
    """As Amazon words them; no secret is among them."""
    from tests.storage.fault_proxy import REFUSED_WITH, Fault

    monkeypatch.setitem(REFUSED_WITH, 400, code)
    proxy.rules.append(lambda _: Fault(400))
    store = new_store(endpoint_url=proxy.endpoint_url)
    for ask in (lambda: store.names(""), lambda: store.put_new("entry", b"x"), lambda: store.read("entry")):
        with pytest.raises(kind, match=sentence) as error:
            ask()
        assert SECRET_KEY not in str(error.value)


def test_without_boto3_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an optional dependency."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"event-archive\[s3\]"):
        a_store(region="eu-west-1").names("")


def test_importing_the_store_does_not_import_boto3() -> None:
    """Who keeps an archive on a disk needs none."""
    code = "import sys, event_archive.storage.s3; assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def locked_store(server: Server, bucket: str, tmp_path: Path, *, days: int | None) -> S3Store:
    """A store that sends Object Lock headers."""
    return S3Store(
        bucket,
        "archive",
        settings=S3Settings(endpoint_url=server.endpoint_url, object_lock_days=days),
        cache=LocalCache(tmp_path / "cache", 1 << 30),
        read_only_files=True,
    )


def write_all(store: S3Store) -> None:
    """An entry, a small and a large file, and a pointer."""
    from hashlib import sha256

    assert store.put_new("_delta_log/00000000000000000000.json", b"entry")
    for name, size in (("small.parquet", 10), ("large.parquet", 9 << 20)):
        file = store.new_file(name)
        file.write(bytes(size))
        file.finish()
    for pointer in (b"1", b"2"):
        store.restore("_delta_log/_last_checkpoint", [pointer], sha256=sha256(pointer).hexdigest())


def test_what_is_written_is_locked_and_pointers_are_not(server: Server, tmp_path: Path) -> None:
    """For as many days as the settings say; not even its owner removes it before."""
    bucket = server.new_bucket(ObjectLockEnabledForBucket=True)
    write_all(locked_store(server, bucket, tmp_path, days=30))
    client, now = server.client(), dt.datetime.now(dt.UTC)
    names = ["_delta_log/00000000000000000000.json", "small.parquet"]
    if server.name != "moto":  # which forgets the lock of what is sent in parts
        names.append("large.parquet")
    for name in names:
        head = client.head_object(Bucket=bucket, Key=f"archive/{name}")
        assert head["ObjectLockMode"] == "GOVERNANCE", name
        assert dt.timedelta(days=29.9) < head["ObjectLockRetainUntilDate"] - now < dt.timedelta(days=30.1)
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key=f"archive/{name}", VersionId=head["VersionId"])
    head = client.head_object(Bucket=bucket, Key="archive/_delta_log/_last_checkpoint")
    assert "ObjectLockMode" not in head


def test_the_lock_has_the_mode_of_the_bucket(server: Server, tmp_path: Path) -> None:
    """A bucket that is set to compliance stays so."""
    bucket = server.new_bucket(ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    server.client().put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    locked_store(server, bucket, tmp_path, days=3).put_new("entry", b"entry")
    assert server.client().head_object(Bucket=bucket, Key="archive/entry")["ObjectLockMode"] == "COMPLIANCE"


def test_without_days_the_bucket_decides(server: Server, tmp_path: Path) -> None:
    """A bucket without a lock takes the files as they are."""
    write_all(locked_store(server, server.new_bucket(), tmp_path, days=None))
    write_all(locked_store(server, server.new_bucket(ObjectLockEnabledForBucket=True), tmp_path, days=None))


def test_days_in_a_bucket_without_a_lock_are_a_mistake(server: Server, tmp_path: Path) -> None:
    """Who asked for protection must not believe to have it."""
    with pytest.raises(ConfigurationError, match=r"s3\.object_lock_days"):
        locked_store(server, server.new_bucket(), tmp_path, days=1).put_new("entry", b"entry")


def test_a_deleted_file_of_a_locked_bucket_is_hidden(server: Server, tmp_path: Path) -> None:
    """Its bytes stay."""
    bucket = server.new_bucket(ObjectLockEnabledForBucket=True)
    store = locked_store(server, bucket, tmp_path, days=1)
    store.put_new("entry", b"entry")
    store.delete("entry")
    assert store.names("") == []
    versions = server.client().list_object_versions(Bucket=bucket)["Versions"]
    assert [version["Key"] for version in versions] == ["archive/entry"]
