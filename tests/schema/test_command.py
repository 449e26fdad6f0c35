"""The command `schema`: what it prints for people and for programs, and how it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project


def archived(project: Project) -> None:
    """A small stream with a change on its way."""
    for number, quantity in enumerate(("1", '"1"')):
        line = f'{{"event_type": "sold", "quantity": {quantity}, "at": "2026-01-31T00:00:00Z"}}\n'
        project.write(f"{number}.jsonl", line.encode() * 49 + b"nope\n")
        project.ingest(settled=True)


def test_people_see_paths_types_shares_and_drift(project: Project) -> None:
    """One table, and what has changed in words."""
    archived(project)
    done = project.run("schema", "events", "--days")
    assert done.returncode == 0, done.stderr
    assert "events: 100 events up to commit 2, 98 are JSON, 2 are none." in done.stdout
    assert "Types of events (event_type): sold 100 %." in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["quantity"])
    assert "100 %  integer 50 %, string 50 %" in row
    assert "quantity changed its type from integer to string after commit 1" in done.stdout


def test_programs_get_one_json_document(project: Project) -> None:
    """The same, complete."""
    archived(project)
    done = project.run("schema", "events", "--json", "--days", "--time-field", "at")
    found = json.loads(done.stdout)
    quantity = next(path for path in found["paths"] if path["path"] == "quantity")
    assert quantity["events"] == 98
    assert quantity["kinds"]["integer"]["events"] == 49
    assert (quantity["kinds"]["integer"]["first_commit"], quantity["kinds"]["string"]["first_commit"]) == (
        1,
        2,
    )
    assert quantity["types"] == {"sold": 98}
    assert quantity["first_time"] == "2026-01-31T00:00:00+00:00"
    assert {day["day"] for day in found["days"]} == {"2026-01-31"}


def test_text_of_payloads_moves_no_terminal_and_breaks_no_table(project: Project) -> None:
    """Keys and types with escape sequences and with rich's own markup are shown as they are."""
    project.write("a.jsonl", b'{"event_type": "[red]\\u001b[31m", "[bold]a\\u001b[2J": 1}\n' * 10)
    project.ingest(settled=True)
    done = project.run("schema", "events")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "[bold]a" in done.stdout
    assert "[red]" in done.stdout


def test_mistakes_are_one_sentence(project: Project) -> None:
    """A stream that isn't configured, a time without its zone, a path that is none: 2; a damaged file: 1."""
    archived(project)
    for arguments in (("unknown",), ("events", "--since", "2026-01-31"), ("events", "--type-field", "a[]")):
        done = project.run("schema", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
    parquet = next(project.table.rglob("*.parquet"))
    parquet.chmod(0o644)
    parquet.write_bytes(parquet.read_bytes()[:-20])
    done = project.run("schema", "events")
    assert done.returncode == 1
    assert "event-archive verify events" in done.stderr
    assert "Traceback" not in done.stderr
