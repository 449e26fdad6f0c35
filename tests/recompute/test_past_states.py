"""Tables of a past state of the archive: whatever has happened to it since, they are what they were, to the digest."""

from __future__ import annotations

import json
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.errors import UsageError
from event_archive.recompute.as_of import HistoryChanged, pin_as_of
from event_archive.recompute.request import Request
from event_archive.recompute.run import Ending
from event_archive.warehouse import read_build, read_record
from tests.recompute.place import orders, visits
from tests.recompute.test_refresh import compact, copy_away, no_dbt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.recompute.place import Place


def as_of(place: Place, state: str, name: str = "past.duckdb") -> Path:
    """Rebuilds as of a state, into a file."""
    file = place.folder / name
    done = place.recompute(Request(is_rebuild=True, as_of=state, into=file))
    assert done.ending is Ending.WRITTEN
    return file


def test_an_old_build_comes_back_from_the_archive(shop: Place) -> None:
    """By its name, although its file is long gone, after more events, a compaction and a move of the archive; digest for digest."""
    old = shop.live
    shop.configure("keep_builds: 1")
    for first in (20, 25):
        shop.archive("orders", orders(first - 10, first + 5))
        shop.archive("visits", visits(first, first + 5))
        shop.recompute()
    compact(shop)
    copy_away(shop)
    for folder in ("archive", "landing"):
        (shop.folder / folder).rename(shop.folder / f"gone_{folder}")
    assert [file.stem for file in (shop.warehouse / "builds").glob("*.duckdb")] == [shop.live]
    live = shop.live
    file = as_of(shop, old)
    then, now = read_record(shop.warehouse, old), read_build(file)
    assert {mart.mart: (mart.rows, mart.digest) for mart in now.marts} == {
        mart.mart: (mart.rows, mart.digest) for mart in then.marts
    }
    assert now.streams == then.streams
    assert (now.as_of, now.mode) == (old, "rebuild")
    assert shop.live == live
    assert not file.stat().st_mode & 0o222


def test_a_past_state_has_many_names(shop: Place) -> None:
    """A time with its zone, the record of a build, a file of versions; a stream that it doesn't know had no events yet."""
    then = datetime.now(UTC)
    old, expected = shop.live, shop.contents()
    time.sleep(0.01)
    shop.archive("orders", orders(20, 25))
    shop.recompute()
    versions = {name: seen.version for name, seen in read_record(shop.warehouse, old).streams.items()}
    (shop.folder / "versions.json").write_text(
        json.dumps({"streams": {"orders": {"version": versions["orders"]}}})
    )
    config = shop.config()
    record = shop.warehouse / "builds" / f"{old}.json"
    assert pin_as_of(config, old) == pin_as_of(config, then.isoformat()) == pin_as_of(config, str(record))
    assert {name: seen.events for name, seen in pin_as_of(config, "2000-01-01T00:00:00Z").items()} == {
        "orders": 0,
        "visits": 0,
    }
    assert {name: seen.events for name, seen in pin_as_of(config, "2999-01-01T00:00:00+02:00").items()} == {
        "orders": 25,
        "visits": 20,
    }
    of_file = pin_as_of(config, str(shop.folder / "versions.json"))
    assert (of_file["orders"].events, of_file["visits"].version) == (20, -1)
    assert shop.contents(as_of(shop, then.isoformat())) == expected
    with closing(duckdb.connect(str(as_of(shop, str(shop.folder / "versions.json"), "b")))) as connection:
        assert connection.execute("select orders, visits from totals").fetchall() == [(20, 0)]


def test_a_past_state_waits_to_be_published_and_may_be_gone_on_from(shop: Place) -> None:
    """Never by itself, whatever the policy; once it is, the next refresh brings what came after it."""
    old = shop.live
    shop.archive("orders", orders(20, 25))
    shop.recompute()
    live = shop.live
    done = shop.recompute(Request(is_rebuild=True, as_of=old))
    assert done.ending is Ending.WAITING
    assert done.record is not None
    assert f"`event-archive publish {done.record.build_id}`" in done.reason
    assert shop.live == live
    shop.run("publish", done.record.build_id)
    assert shop.rows("select as_of from build_info") == [(old,)]
    assert shop.rows("select count(*) from orders") == [(20,)]
    assert shop.recompute().new_since_published == {"orders": 5}
    assert shop.contents() == shop.rebuilt()


def test_some_tables_of_a_past_state(shop: Place) -> None:
    """With what they read; others aren't in the file."""
    file = shop.folder / "some.duckdb"
    done = shop.recompute(Request(is_rebuild=True, select=("sales_daily",), as_of=shop.live, into=file))
    assert done.record is not None
    assert {mart.mart for mart in done.record.marts} == {"orders", "sales_daily"}
    assert {mart.mart: mart.digest for mart in done.record.marts}.items() <= shop.digests().items()


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("yesterday", "'yesterday' is no build, no time and no file"),
        ("2024-01-31T12:00:00", "a time with its zone"),
        ("20200101T000000000000Z-abcdef", "There is no record of a build 20200101T000000000000Z-abcdef"),
        ("notes.json", "doesn't say which commits"),
        ("event_archive.yaml", "doesn't say which commits"),
        ("visits_only.json", "has seen a stream 'parcels', which the configuration hasn't: add it again"),
    ],
)
def test_a_state_that_nobody_knows_is_refused(
    state: str, sentence: str, shop: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong usage, told in a sentence; nothing is left behind."""
    (shop.folder / "notes.json").write_text("[1, 2]")
    (shop.folder / "visits_only.json").write_text('{"streams": {"parcels": {"version": 0}}}')
    monkeypatch.chdir(shop.folder)
    with pytest.raises(UsageError, match=sentence):
        shop.recompute(Request(is_rebuild=True, as_of=state, into=shop.folder / "past.duckdb"), fill=no_dbt)
    assert not (shop.folder / "past.duckdb").exists()
    assert list((shop.warehouse / "building").iterdir()) == []


def test_a_wrong_name_is_a_wrong_usage(shop: Place) -> None:
    """Exit code 2, as for all of them."""
    assert "is no build, no time and no file" in shop.run("rebuild", "--as-of", "yesterday", expect=2)


def test_a_file_is_never_replaced(shop: Place) -> None:
    """Nor is one made in a folder that isn't there; both are told before anything is computed."""
    (shop.folder / "mine.duckdb").write_text("mine")
    for name, sentence in (("mine.duckdb", "exists already"), ("nowhere/mine.duckdb", "there is no folder")):
        with pytest.raises(UsageError, match=sentence):
            shop.recompute(Request(is_rebuild=True, into=shop.folder / name), fill=no_dbt)
    assert (shop.folder / "mine.duckdb").read_text() == "mine"


def test_another_archive_or_one_cut_off_is_found_out(shop: Place) -> None:
    """The record knows the hash of the log: no state of another archive is taken for it."""
    old = shop.live
    shop.configure(archive="other")
    with pytest.raises(Exception, match="was cut off, or it is another one"):
        pin_as_of(shop.config(), old)
    for stream, events in (("orders", orders(50, 60)), ("visits", visits(50, 60))):
        shop.archive(stream, events)
        shop.archive(stream, events)
    with pytest.raises(HistoryChanged, match=r"The archive of orders isn't the one that .* has seen"):
        pin_as_of(shop.config(), old)
    shop.configure(streams=["orders"], archive="archive")
    with pytest.raises(UsageError, match="has seen a stream 'visits', which the configuration hasn't"):
        pin_as_of(shop.config(), old)


def test_a_stream_that_is_gone_from_the_configuration_keeps_no_rebuild_from_being_compared(
    shop: Place,
) -> None:
    """With `publish: ask` a rebuild is of the state of the published tables; of a stream that isn't there any more, it can't be."""
    for name in ("stg_visits", "customers", "best_customers", "totals"):
        (file,) = (shop.project / "models").rglob(f"{name}.sql")
        file.unlink()
    (shop.project / "models" / "marts" / "marts.yml").unlink()
    for name in ("orders", "sales_daily"):
        shop.edit(f"models/marts/{name}.sql", "config(", "config(contract={'enforced': false}, ")
    shop.configure("publish: ask", streams=["orders"])
    done = shop.recompute(Request(is_rebuild=True))
    assert done.ending is Ending.WAITING
    assert "nobody to ask" in done.reason
