"""The commands as a user types them: what they print, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project


def event_archive(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder."""
    command = [sys.executable, "-m", "event_archive", *arguments]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_from_init_to_the_first_answer(tmp_path: Path) -> None:
    """The five minutes of a new user."""
    made = event_archive(tmp_path, "init")
    assert (made.returncode, "data/landing/events" in made.stdout) == (0, True)
    (tmp_path / "data/landing/events/a.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    ingested = event_archive(tmp_path, "ingest", "--json")
    assert json.loads(ingested.stdout)["streams"][0]["events"] == 2
    answer = event_archive(
        tmp_path, "sql", "select sum((payload->>'n')::int) as total from archive.events", "--format", "csv"
    )
    assert answer.stdout.split() == ["total", "3"]
    status = json.loads(event_archive(tmp_path, "status", "--json").stdout)["streams"][0]
    assert (status["events"], status["bytes"], status["commits"], status["lag"]["files"]) == (2, 16, 2, 0)
    assert status["positions"] == {"file:a.jsonl": 2}
    assert event_archive(tmp_path, "verify").returncode == 0
    assert event_archive(tmp_path, "init").returncode == 2


def test_streams_may_be_named(project: Project) -> None:
    """Only those are touched; a name that isn't configured is wrong usage."""
    assert project.run("ingest", "events").returncode == 0
    unknown = project.run("ingest", "other")
    assert unknown.returncode == 2
    assert "no stream 'other'; the configured ones are: events" in unknown.stderr


@pytest.mark.parametrize("command", ["ingest", "status", "verify", "sql", "replay"])
def test_a_wrong_configuration_is_one_clear_sentence(project: Project, command: str) -> None:
    """On stderr, exit code 2, no traceback."""
    project.config_file.write_text(
        "archive: a\nwarehouse: w\nstreams:\n  Bad-Name:\n    source: {type: files, path: x}\n"
    )
    arguments = {"sql": ["select 1"], "replay": ["events", "--to", "out"]}.get(command, [])
    done = project.run(command, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().count("\n") == 0
    assert "streams.Bad-Name" in done.stderr
    assert "event_archive.yaml:4" in done.stderr


def test_wrong_usage_ends_with_2(project: Project) -> None:
    """As the shell expects."""
    assert project.run("no-such-command").returncode == 2
    assert project.run("sql").returncode == 2
    assert project.run("sql", "select 1", "--format", "xml").returncode == 2


def test_file_names_can_not_speak_to_the_terminal(project: Project) -> None:
    """A name with an escape sequence is shown, not obeyed."""
    (project.landing / "\x1b[31mred.jsonl").mkdir()
    done = project.run("ingest")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "\\x1b[31mred" in done.stderr


def test_help_names_every_command() -> None:
    """And answers without reading a configuration."""
    done = subprocess.run(
        [sys.executable, "-m", "event_archive", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("init", "ingest", "status", "sql", "verify", "replay", "sources"):
        assert command in done.stdout


def test_sql_sees_the_archive_and_nothing_else(project: Project) -> None:
    """The sandbox as the command line sets it up; each refusal is a sentence and exit code 2, and nothing is written."""
    project.write("a.jsonl", b'{"n": 1}\n')
    project.ingest()
    before = sorted(str(path) for path in project.folder.rglob("*"))
    data_file = next(project.table.glob("*/*.parquet"))
    for query in (
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        f"select * from read_parquet('{data_file}')",
        f"copy (select 1) to '{data_file}'",
        "copy (select 1) to 'out.csv'",
        "attach 'x.duckdb'",
        "create table t as select 1",
        "insert into archive.events select * from archive.events",
        "set memory_limit = '100GB'",
        "pragma database_list",
        "install httpfs",
        "load httpfs",
        "export database 'x'",
        "select 1; select 2",
        "with x as (select * from read_blob('/etc/passwd')) select * from x",
        "/* harmless */ select getenv('HOME')",
        "select * from glob('/*')",
        "",
    ):
        done = project.run("sql", query)
        assert done.returncode == 2, (query, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
    assert sorted(str(path) for path in project.folder.rglob("*")) == before
