"""A new user with events of a domain that nobody here knows: each command says the next one, and what it wrote runs as it is."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from tests.scaffold.place import Place, as_lines

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def reading(number: int) -> dict[str, Any]:
    """A reading of a station, by somebody who has never heard of SQL."""
    return {
        "Event ID": f"r{number}",
        "station": f"s{number % 7}",
        "at": f"2026-03-{1 + number * 5 % 28:02d}T{number % 24:02d}:30:00+09:00",
        "naive": "2026-03-01 10:00:00",
        "epoch_ms": 1_770_000_000_000 + number,
        "price": number / 4 if number % 50 else "free",
        "huge": 10**30 + number,
        "sizes": 1e300 if number % 40 == 0 else number / 7,
        "select": number % 3,
        "order": {"group by": number, "Größe": "L", "名前": "x"},
        "userName": "a",
        "user_name": "b",
        "user-name": "c",
        "event_number": -number,
        "events": 7,
        "event_at": "2026-03-01T00:00:00Z",
        "change_version": 1,
        "outcome": "fine",
        "list": [1, {"a": None}],
        "nothing": None,
        "x" * 200: 1,
        "'; drop table y; --": "{{ 1 / 0 }}",
        **({"only sometimes": True} if number % 3 else {}),
    }


def run(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that must end well."""
    done = place.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def next_commands(said: str) -> list[list[str]]:
    """The commands that the last line of an output names."""
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("Next: "), said
    return [shlex.split(text)[1:] for text in re.findall(r"`(event-archive [^`]+)`", last)]


def rows(place: Place, query: str) -> list[dict[str, Any]]:
    """What a reader gets."""
    found: list[dict[str, Any]] = json.loads(run(place, "sql", query, "--format", "json").stdout)
    return found


def test_what_each_command_says_next_leads_to_tables_that_refresh_and_rebuild_alike(tmp_path: Path) -> None:
    """From `init` on by the printed commands alone; then late, doubled and broken events: in steps the tables are those of a rebuild."""
    place = Place(tmp_path)
    first: list[dict[str, Any] | bytes] = [*map(reading, range(1000)), b'{"broken": ', b"\xff"]
    (tmp_path / "sample.jsonl").write_bytes(as_lines(first))
    run(place, "init")
    said = run(place, "scaffold", "stream", "readings", "--sample", "sample.jsonl").stdout
    assert 'Redeliveries are told by "Event ID"' in said
    assert "for price where it is string (2 %)" in said
    ingest, refresh, mart = next_commands(said)
    landing = re.search(r"put event files into (\S+),", said)
    assert landing is not None
    (tmp_path / landing.group(1) / "1.jsonl").write_bytes(as_lines(first))
    run(place, *ingest)
    mart = [{"NAME": "stations", "COLUMN": "station"}.get(word, word) for word in mart]
    refresh_again, look = next_commands(run(place, *mart).stdout)
    assert refresh_again == refresh
    run(place, "scaffold", "mart", "station_days", "--stream", "readings", "--key", "at_", "--level", "day")
    run(place, *refresh)
    assert "station" in run(place, *look).stdout

    # 20 have a price that isn't one; all the rest is there, and each station's last reading is the last by its time.
    accepted = [event for event in map(reading, range(1000)) if event["price"] != "free"]
    newest = {}
    for event in sorted(accepted, key=lambda event: event["at"]):
        newest[event["station"]] = event["huge"]
    assert rows(place, "select sum(events)::int as n from station_days") == [{"n": 980}]
    query = "select station, last_huge, events, last_events, last_event_number from stations order by 1"
    found = rows(place, query)
    assert sum(row["events"] for row in found) == 980
    assert {row["station"]: int(row["last_huge"]) for row in found} == newest
    assert {row["last_events"] for row in found} == {7}
    assert all(row["last_event_number"] == 10**30 - int(row["last_huge"]) for row in found)

    late: list[dict[str, Any] | bytes] = [
        *map(reading, range(990, 1100)),
        *map(reading, range(0, 100, 7)),
        b"no",
    ]
    (tmp_path / landing.group(1) / "2.jsonl").write_bytes(as_lines(late))
    run(place, *ingest)
    in_steps = json.loads(run(place, "refresh", "--json").stdout)["record"]
    assert rows(place, "select sum(events)::int as n from stations") == [{"n": 1078}]
    at_once = json.loads(run(place, "rebuild", "--json").stdout)
    assert at_once["difference"]["marts"] != []
    assert digests(at_once["record"]) == digests(in_steps)
    assert set(digests(in_steps)) == {"stations", "station_days"}
    schema = json.loads(run(place, "schema", "readings", "--json").stdout)
    [price] = [path for path in schema["paths"] if path["path"] == "price"]
    assert {kind: facts["events"] for kind, facts in price["kinds"].items()}.keys() == {"number", "string"}


def test_a_refresh_without_models_of_ones_own_says_how_to_make_them(tmp_path: Path) -> None:
    """At once and in a sentence, rather than by what dbt says of a table that it can't find in models of somebody else."""
    place = Place(tmp_path)
    run(place, "init")
    done = place.run("refresh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "event-archive scaffold stream NAME" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def digests(record: dict[str, Any]) -> dict[str, str]:
    """The digest of each mart of a build."""
    return {mart["mart"]: mart["digest"] for mart in record["marts"]}
