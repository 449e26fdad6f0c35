"""`builds`, `rollback`, `publish` and `diff` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.warehouse import current_build_id, layout
from tests.warehouse.builders import published, run, waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from event_archive.warehouse import BuildRecord

CARTS = (
    "create or replace table carts as select i as cart_id, 'open' as state, [i] as items from range(8) n(i)"
)
FLIGHTS = "create or replace table flights as select 1 as flight_id"


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `event-archive` in a project of its own."""
    (tmp_path / "event_archive.yaml").write_text("archive: archive\nwarehouse: warehouse\nstreams: {}\n")

    def run_it(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "event_archive", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    return run_it


@pytest.fixture
def two(tmp_path: Path) -> tuple[BuildRecord, BuildRecord]:
    """Two builds, the second live: one cart has changed, one is new, one is gone."""
    warehouse = tmp_path / "warehouse"
    grains = {"carts": ["cart_id"]}
    first = published(warehouse, CARTS, FLIGHTS, version=3, events=100, grains=grains)
    changes = (
        "update carts set state = '[bold]\x1b[31mpaid', items = null where cart_id = 3",
        "delete from carts where cart_id = 4",
        "insert into carts values (99, null, [])",
    )
    second = published(warehouse, *changes, version=4, events=125, grains=grains)
    return first, second


def test_builds_lists_each_with_its_state(
    tmp_path: Path, command: Callable[..., Any], two: tuple[BuildRecord, BuildRecord]
) -> None:
    """Newest first, for people and for programs; of removed ones the record is left."""
    wait = waiting(tmp_path / "warehouse", events=130)
    lines = [line.split() for line in command("builds").stdout.splitlines() if " 20" in line]
    assert [(line[0], line[1]) for line in lines] == [
        (wait.build_id, "waiting"),
        (two[1].build_id, "live"),
        (two[0].build_id, "kept"),
    ]
    assert "bookings 125" in command("builds").stdout
    layout.build_file(tmp_path / "warehouse", two[0].build_id).unlink()
    document = json.loads(command("builds", "--json").stdout)["builds"]
    assert [build["state"] for build in document] == ["waiting", "live", "removed"]
    assert document[1]["record"]["streams"]["bookings"]["events"] == 125
    assert document[1]["size_bytes"] > 0
    assert document[2]["size_bytes"] is None
    assert document[2]["record"]["marts"][0]["rows"] == 8


def test_builds_of_an_empty_warehouse_are_none(command: Callable[..., Any]) -> None:
    """Nothing is made by asking; going back from nothing is a wrong usage."""
    assert "Nothing has been built yet" in command("builds").stdout
    assert json.loads(command("builds", "--json").stdout) == {"builds": []}
    assert "event-archive refresh" in command("rollback", expect=2).stderr
    assert "Nothing is published" in command("diff", "live", "live", expect=2).stderr


def test_rollback_says_what_it_did_and_what_the_older_build_lacks(
    tmp_path: Path, command: Callable[..., Any], two: tuple[BuildRecord, BuildRecord]
) -> None:
    """And that the next refresh goes on from there; a second time it is told that there is nothing before."""
    said = command("rollback").stdout
    assert current_build_id(tmp_path / "warehouse") == two[0].build_id
    assert f"Live is now build {two[0].build_id}" in said
    assert f"Before it was {two[1].build_id}, which holds 25 more events of bookings. It is kept." in said
    assert "the next refresh goes on from the live build" in said
    assert "there is none before it" in command("rollback", expect=2).stderr
    assert f"There are: {two[1].build_id}" in command("rollback", "20260101", expect=2).stderr
    document = json.loads(command("rollback", two[1].build_id, "--json").stdout)
    assert document == {"live": two[1].build_id, "live_before": two[0].build_id, "events_behind": {}}
    assert "nothing was changed" in command("rollback", two[1].build_id).stdout


def test_publish_switches_a_waiting_build_in(
    tmp_path: Path, command: Callable[..., Any], two: tuple[BuildRecord, BuildRecord]
) -> None:
    """Also when what is live has been published since, which is said."""
    wait = waiting(tmp_path / "warehouse", version=4, events=125)
    newer = published(tmp_path / "warehouse", version=5, events=140)
    said = command("publish", wait.build_id).stdout
    assert f"Before it was {newer.build_id}, which holds 15 more events of bookings." in said
    assert current_build_id(tmp_path / "warehouse") == wait.build_id
    assert "There is no build '../x'" in command("publish", "../x", expect=2).stderr


def test_diff_shows_each_change_and_tells_programs_by_its_exit_code(
    tmp_path: Path, command: Callable[..., Any], two: tuple[BuildRecord, BuildRecord]
) -> None:
    """0 equal, 1 different; nothing in a value is taken for markup or a terminal's command."""
    first, second = (build.build_id for build in two)
    said = command("diff", first, "live", expect=1).stdout
    assert "\x1b" not in said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines() if len(line.split()) == 7}
    assert lines["carts"] == ["rows", "8", "8", "1", "1", "1"]
    assert lines["flights"] == ["none", "1", "1", "-", "-", "-"]
    assert "  1 row changed: items in 1, state in 1" in said
    assert '  ~ cart_id "3": items "[3]" → null, state "open" → "[bold]\\u001b[31mpaid"' in said
    assert '  + cart_id "99", items "[]", state null' in said
    assert '  - cart_id "4", items "[4]", state "open"' in said
    assert "carts" not in command("diff", first, second, "flights").stdout
    command("diff", "live", second)
    document = json.loads(command("diff", first, second, "--json", "--samples", "0", expect=1).stdout)
    assert document["is_equal"] is False
    carts = document["diff"]["marts"][0]
    assert (carts["mart"], carts["rows"]["changed"], carts["rows"]["changed_samples"]) == ("carts", 1, [])


def test_diff_takes_files_too_and_needs_no_configuration_for_them(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    """A build for a file of one's own is compared like any other."""
    run(tmp_path / "a.duckdb", CARTS)
    run(tmp_path / "b.duckdb", CARTS)
    (tmp_path / "event_archive.yaml").unlink()
    command("diff", "a.duckdb", "b.duckdb")
    run(tmp_path / "b.duckdb", "delete from carts where cart_id = 1")
    command("diff", "a.duckdb", "b.duckdb", expect=1)


def test_what_can_not_be_compared_is_neither_equal_nor_different(
    tmp_path: Path, command: Callable[..., Any], two: tuple[BuildRecord, BuildRecord]
) -> None:
    """Exit code 2 and a sentence: a build that is gone, no file, no database, no such mart."""
    (tmp_path / "notes.duckdb").write_text("no database")
    layout.build_file(tmp_path / "warehouse", two[0].build_id).unlink()
    for a, b, mart, sentence in [
        (two[0].build_id, "live", "carts", "only the record is left"),
        ("yesterday", "live", "carts", "no build, and no file"),
        ("notes.duckdb", "live", "carts", "no readable build"),
        ("live", "live", "nothing", "there are: carts, flights"),
    ]:
        assert sentence in command("diff", a, b, mart, expect=2).stderr
