"""What a build is made of is written down, and stays when the build is gone."""

from __future__ import annotations

import dataclasses
import json
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import __version__
from event_archive.warehouse import (
    BuildRecord,
    BuildUnreadable,
    MadeBy,
    MartRecord,
    StreamRecord,
    finish,
    keep_waiting,
    layout,
    publish,
    read_build,
    read_published,
    read_record,
    start_build,
)
from event_archive.warehouse.record import from_json, to_json
from tests.warehouse.builders import SEATS, bookings, published, rows, run

if TYPE_CHECKING:
    from pathlib import Path


def a_record(**changed: Any) -> BuildRecord:
    """A record with all that it can hold."""
    record = BuildRecord(
        build_id=layout.new_build_id(),
        mode="rebuild",
        built_by="Zoë, by hand",
        project_version="0.1.0",
        dbt_invocation_id="b2b5",
        based_on=None,
        as_of="2026-01-31T00:00:00+00:00",
        started_at=datetime(2026, 1, 31, 1, 2, 3, 4, tzinfo=UTC),
        finished_at=datetime(2026, 1, 31, 1, 2, 4, tzinfo=UTC),
        streams={"bookings": StreamRecord(3, 7, "ab"), "carts": StreamRecord(-1, 0)},
        marts=(MartRecord("seats", 10, "cd", "entity", ("seat",), ("seat", "at"), "ef"),),
        models={"seats": "ef", "stg_seats": "01"},
    )
    return dataclasses.replace(record, **changed)


def test_the_record_the_tables_in_the_file_and_what_was_given_say_the_same(tmp_path: Path) -> None:
    """Stream by stream and mart by mart; the next build finds the models' hashes there."""
    with start_build(tmp_path, mode="rebuild", streams=bookings(3, 7)) as build:
        run(build.file, SEATS)
        made = publish(
            build,
            MadeBy(
                built_by="a test",
                models={"seats": "hash 1", "stg_seats": "hash 2"},
                grains={"seats": ["seat"]},
                dbt_invocation_id="b2b5",
                as_of="2026-01-31T00:00:00Z",
            ),
        )
    assert made == read_record(tmp_path, made.build_id) == read_build(build_file(tmp_path, made))
    assert made == read_published(tmp_path)
    assert (made.mode, made.built_by, made.dbt_invocation_id) == ("rebuild", "a test", "b2b5")
    assert (made.project_version, made.as_of, made.based_on) == (__version__, "2026-01-31T00:00:00Z", None)
    assert made.streams == {"bookings": StreamRecord(3, 7, f"{3:064x}")}
    assert made.models == {"seats": "hash 1", "stg_seats": "hash 2"}
    (mart,) = made.marts
    assert (mart.mart, mart.rows, mart.grain, mart.code_hash) == ("seats", 10, ("seat",), "hash 1")
    link = layout.current_link(tmp_path)
    assert rows(link, "select build_id, dbt_invocation_id from build_info") == [(made.build_id, "b2b5")]
    assert rows(link, "select mart, rows, digest, grain from build_marts") == [
        ("seats", 10, mart.digest, ["seat"])
    ]


def build_file(warehouse: Path, record: BuildRecord) -> Path:
    """The file of a build."""
    return layout.build_file(warehouse, record.build_id)


def test_a_record_outlives_its_build(tmp_path: Path) -> None:
    """Of five builds two files are kept and five records; the oldest still says what it was made of."""
    made = [published(tmp_path, SEATS, version=number, keep=2) for number in range(5)]
    assert layout.build_ids_with_file(tmp_path) == [build.build_id for build in made[3:]]
    assert [read_record(tmp_path, build.build_id) for build in made] == made
    assert stat.S_IMODE(layout.record_file(tmp_path, made[0].build_id).stat().st_mode) == 0o444


def test_a_record_comes_back_as_it_was_written() -> None:
    """Every field, with nulls, empty lists and names in any script."""
    full = a_record()
    assert from_json(to_json(full), "it") == full
    empty = a_record(streams={}, marts=(), models={}, as_of=None, dbt_invocation_id=None)
    assert from_json(to_json(empty), "it") == empty


def change(**changes: Any) -> str:
    """A record's document with other values in it."""
    return json.dumps({**json.loads(to_json(a_record())), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"format": 1}',
        to_json(a_record())[:-40],
        change(build_id="../../etc/passwd"),
        change(streams={"../x": {"version": 1, "events": 1, "chain_hash": None}}),
        change(streams={"bookings": {"version": "1", "events": 1, "chain_hash": None}}),
        change(streams=[]),
        change(marts=[{"mart": "seats"}]),
        change(models={"seats": 1}),
        change(started_at="2026-01-31T00:00:00"),
        change(started_at="yesterday"),
    ],
)
def test_a_damaged_record_is_an_error_that_names_it_and_the_way_out(text: str) -> None:
    """Never a guess, never another kind of error."""
    with pytest.raises(BuildUnreadable, match=r"builds/it\.json is no readable record .* by its time"):
        from_json(text, "builds/it.json")


def test_a_record_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    """The sentence says which version reads it."""
    with pytest.raises(BuildUnreadable, match="is of format 2; this version of event-archive reads format 1"):
        from_json(change(format=2), "it")
    with pytest.raises(BuildUnreadable, match="no readable record"):
        read_record(tmp_path, layout.new_build_id())


def test_a_record_under_another_builds_name_is_refused(tmp_path: Path) -> None:
    """Copied by hand, it would say that another build is what it isn't."""
    build = published(tmp_path, SEATS)
    other = layout.new_build_id()
    layout.record_file(tmp_path, other).write_bytes(layout.record_file(tmp_path, build.build_id).read_bytes())
    with pytest.raises(BuildUnreadable, match=build.build_id):
        read_record(tmp_path, other)


@pytest.mark.parametrize("name", ["..", "../x", "x/y", "", "\0", "20260131T000000000000Z-abcdef/../x"])
def test_only_the_name_of_a_build_gets_into_a_path(tmp_path: Path, name: str) -> None:
    """Whoever gives the name."""
    with pytest.raises(ValueError, match="not the name of a build"):
        layout.record_file(tmp_path, name)
    with pytest.raises(ValueError, match="not the name of a build"):
        layout.build_file(tmp_path, name)


@pytest.mark.parametrize(
    ("said", "recorded"), [(["Seat"], ("seat",)), (["seat", "row_number"], ()), (["lower(seat)"], ())]
)
def test_a_grain_is_recorded_as_the_mart_spells_it_or_not_at_all(
    tmp_path: Path, said: list[str], recorded: tuple[str, ...]
) -> None:
    """A test may be of an expression, or spelled in other letters; without a grain, rows are compared whole."""
    with start_build(tmp_path, mode="rebuild", streams={}) as build:
        run(build.file, SEATS)
        record = finish(build, MadeBy("a test", grains={"seats": said}))
    assert record.marts[0].grain == recorded


def test_a_build_is_finished_once(tmp_path: Path) -> None:
    """And can neither be switched in nor wait before."""
    with start_build(tmp_path, mode="rebuild", streams={}) as build:
        run(build.file, SEATS)
        with pytest.raises(ValueError, match="has to be finished"):
            keep_waiting(build)
        record = finish(build, MadeBy("a test"))
        assert build.record == record
        with pytest.raises(ValueError, match="finished already"):
            finish(build, MadeBy("a test"))
        keep_waiting(build)
    assert read_record(tmp_path, record.build_id) == record
