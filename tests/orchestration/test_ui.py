"""`make ui`: the web server and the daemon, started together on loopback, and ended together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from tests.orchestration.conftest import Place

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PATIENCE_SECONDS = 180
SERVED = "{assetNodes{assetKey{path}} repositoriesOrError{... on RepositoryConnection{nodes{schedules{name scheduleState{status}}}}}}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, query: str) -> dict[str, Any]:
    """Ask the web server, as its pages do."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
        found: dict[str, Any] = json.load(answer)["data"]
    return found


def wait_until_up(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until the web server answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            ask(port, "{version}")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the web server never answered")


def test_the_ui_starts_on_loopback_with_everything_in_it_and_ends_whole(place: Place, tmp_path: Path) -> None:
    """All assets are served, schedules are off, only loopback is listened on; SIGTERM leaves no process behind."""
    port = free_port()
    family: list[psutil.Process] = []
    home = tmp_path / "dagster_home"
    process = subprocess.Popen(
        # Dagster, imported here, may have taken SIGINT's way with SIGTERM: ignored, where the tests run in the background of a shell.
        ["env", "--default-signal=INT,TERM", "bash", str(REPOSITORY / "scripts/ui.sh")],
        env={
            **ENVIRONMENT,
            "PORT": str(port),
            "DAGSTER_HOME": str(home),
            "EVENT_ARCHIVE_CONFIG": str(place.config.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until_up(port, process)
        served = ask(port, SERVED)
        keys = {tuple(node["assetKey"]["path"]) for node in served["assetNodes"]}
        assert {("event_archive", "bookings"), ("event_archive", "cart_events"), ("main", "carts")} <= keys
        schedules = served["repositoriesOrError"]["nodes"][0]["schedules"]
        assert len(schedules) == 3
        assert {schedule["scheduleState"]["status"] for schedule in schedules} == {"STOPPED"}
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("dagster-daemon" in " ".join(member.cmdline()) for member in family)
        listening = {
            connection.laddr.ip
            for member in family
            for connection in member.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert (home / "dagster.yaml").read_text() == (REPOSITORY / "dagster.yaml").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive


def test_without_a_configuration_the_ui_says_so_and_does_not_start(tmp_path: Path) -> None:
    """One sentence, exit code 2, and nothing is left running."""
    done = subprocess.run(
        ["bash", str(REPOSITORY / "scripts/ui.sh")],
        env={
            **ENVIRONMENT,
            "EVENT_ARCHIVE_CONFIG": str(tmp_path / "missing.yaml"),
            "DAGSTER_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr
    assert "event-archive init" in done.stderr
    assert "Traceback" not in done.stderr
