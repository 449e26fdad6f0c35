"""`make demo SOURCE=kafka`: from nothing through a real broker to the same tables as the demo with files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import psutil
import pytest

from event_archive.config import load_config
from event_archive.warehouse import published_file, read_build
from tests.kafka.conftest import kafka, kafka_is_here

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka

__all__ = ["kafka", "kafka_is_here"]

ROOT = Path(__file__).parents[2]
EVENTS = "3000"
# The only column of a mart that says when events arrived; none says where they stood.
ARRIVAL = "ingested_at"

pytestmark = pytest.mark.slow


def run_demo(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Do what `make demo SOURCE=kafka` does, in a folder of its own."""
    command = [sys.executable, "-m", "scripts.demo", "--source", "kafka", "--events", EVENTS, *arguments]
    return subprocess.run(
        [*command, "--folder", str(folder)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def build_from_files(folder: Path) -> Path:
    """Build the tables of a demo whose services write files; return its configuration."""
    config = Path(shutil.copy(ROOT / "event_archive.yaml", folder))
    generate = [sys.executable, "-m", "demo.generate", "--events", EVENTS, "--seed", "7"]
    places = ["--landing", str(folder / "data/landing"), "--truth", str(folder / "data/truth")]
    subprocess.run([*generate, *places], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(
        [sys.executable, "-m", "orchestration.console", "ingest", "refresh"],
        cwd=ROOT,
        env={**os.environ, "EVENT_ARCHIVE_CONFIG": str(config), "DAGSTER_HOME": str(folder / "dagster")},
        check=True,
        capture_output=True,
    )
    return config


def published(config: Path) -> Path:
    """Return the file of the published tables of a configuration."""
    found = published_file(load_config(config).warehouse)
    assert found
    return found


def assert_same_rows(one: Path, other: Path) -> None:
    """Compare all marts, except when events arrived."""
    marts = read_build(one).marts
    assert [mart.mart for mart in marts] == [mart.mart for mart in read_build(other).marts]
    assert len(marts) >= 9
    without_arrival = []
    with duckdb.connect() as connection:
        connection.execute(f"attach '{one}' as one (read_only)")
        connection.execute(f"attach '{other}' as other (read_only)")
        for mart in marts:
            names = connection.execute(f"describe one.main.{mart.mart}").fetchall()
            columns = [name for name, *_ in names if name != ARRIVAL]
            without_arrival += [mart.mart] * (len(columns) < len(names))
            rows, others = (
                connection.execute(
                    f"select {', '.join(columns)} from {database}.main.{mart.mart} order by all"
                ).fetchall()
                for database in ("one", "other")
            )
            assert rows == others, mart.mart
            assert rows, mart.mart
    assert without_arrival == ["cart_events"]


# One test, as each demo takes half a minute: workers of a parallel run would each make their own.
def test_a_demo_through_kafka_builds_the_marts_of_the_demo_with_files_and_can_be_repeated(
    kafka: Kafka, tmp_path: Path
) -> None:
    """From nothing, with a broker of its own; again; and not through another Kafka."""
    folder, config = tmp_path / "demo", tmp_path / "demo" / "event_archive.yaml"

    first = run_demo(folder)

    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.count("all that the service wrote") == 2
    assert f"export EVENT_ARCHIVE_CONFIG={config}" in first.stdout
    (checks,) = [line.split() for line in first.stdout.splitlines() if line.startswith("Checks")]
    assert checks[1] == checks[3]  # 70 of 70
    assert_same_rows(published(build_from_files(tmp_path)), published(config))

    # Its broker comes back with its topics, at another address; the archive goes on where it was.
    address = config.read_text()
    second = run_demo(folder)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "already (--events 3000 --seed 7)" in second.stdout
    assert ", 0 of them new" in second.stdout
    assert "they were not built again" in second.stdout
    assert config.read_text() != address
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(folder) in command] == []

    # Positions in one cluster mean nothing in another.
    address = config.read_text()
    elsewhere = run_demo(folder, "--kafka", kafka.bootstrap)
    assert elsewhere.returncode == 1
    assert "went through another Kafka" in elsewhere.stdout
    assert elsewhere.stderr == ""
    assert config.read_text() == address


def test_without_java_the_demo_says_what_else_there_is(tmp_path: Path) -> None:
    """Docker, and `KAFKA=`."""
    done = run_demo(tmp_path / "demo", PATH=str(tmp_path), JAVA_HOME="")
    assert done.returncode == 1
    assert "no java" in done.stdout.lower()
    assert "docker compose up --detach --wait && make demo SOURCE=kafka KAFKA=localhost:9092" in done.stdout
    assert done.stderr == ""
