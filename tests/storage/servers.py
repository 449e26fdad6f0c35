"""Two services that speak S3, on free ports of this machine: moto's server, and the Versity gateway over a folder.

The gateway is a server that people run, written by others in another language; it compares checksums and signatures, which moto
doesn't. It is built from `gateway/go.mod`, whose `go.sum` pins every byte, and kept in `.cache`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret-key-that-nobody-prints"
START_SECONDS = 60
BUILD_SECONDS = 600

# moto looks for an object and creates it in two steps; conditional requests are let through one at a time.
_MOTO = """
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
application, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()
def one_at_a_time(environ, start_response):
    if "HTTP_IF_NONE_MATCH" not in environ:
        return application(environ, start_response)
    with turn:
        return application(environ, start_response)
run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"""


class ServerUnavailable(Exception):
    """This machine can't run this server."""


@dataclass(frozen=True)
class Server:
    """A running service."""

    name: str
    endpoint_url: str

    def client(self) -> Any:
        """A client of the test's own."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )

    def new_bucket(self, **arguments: Any) -> str:
        """Makes a bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name, **arguments)
        return name


@contextlib.contextmanager
def running_moto(folder: Path) -> Iterator[Server]:
    """Moto's server, in a process of its own."""
    with _running("moto", folder, lambda port: [sys.executable, "-c", _MOTO, str(port)]) as server:
        yield server


@contextlib.contextmanager
def running_gateway(folder: Path) -> Iterator[Server]:
    """The Versity gateway over `folder`.

    Raises:
        ServerUnavailable: it can't be built here.
    """
    program = built_gateway()
    for name in ("objects", "versions", "attributes"):
        (folder / name).mkdir()

    def command(port: int) -> list[str]:
        return [
            *(str(program), "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "posix"),
            *("--versioning-dir", str(folder / "versions"), "--sidecar", str(folder / "attributes")),
            str(folder / "objects"),
        ]

    with _running("gateway", folder, command) as server:
        yield server


def built_gateway() -> Path:
    """The gateway's program; built if it isn't in the cache. Safe to call from many processes at once.

    Raises:
        ServerUnavailable: there is no Go, or the build failed.
    """
    go = shutil.which("go")
    if go is None:
        raise ServerUnavailable("the Versity gateway needs Go to be built, and there is none")
    cache = ROOT / ".cache" / "s3_gateway"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Go itself knows whether anything has changed since, and checks go.sum.
        target = cache / "versitygw"
        run = subprocess.run(
            [go, "build", "-o", str(target), "github.com/versity/versitygw/cmd/versitygw"],
            cwd=Path(__file__).parent / "gateway",
            env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    if run.returncode:
        raise ServerUnavailable(f"the Versity gateway could not be built: {run.stderr[-500:].strip()}")
    return target


@contextlib.contextmanager
def _running(name: str, folder: Path, command: Any) -> Iterator[Server]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            cwd=folder,
            env={**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start: {log.read_text()[-500:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield Server(name, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
