"""A build is made beside the published one and switched in whole, or not at all."""

from __future__ import annotations

import json
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from event_archive.errors import StorageError
from event_archive.warehouse import (
    BuildMode,
    BuildSuperseded,
    BuildUnreadable,
    MadeBy,
    MartUnreadable,
    PinnedStream,
    StreamRecord,
    WarehouseBusy,
    current_build_id,
    layout,
    publish,
    published_file,
    read_published,
    start_build,
)

if TYPE_CHECKING:
    from event_archive.warehouse import Build, BuildRecord

BOOKINGS = {
    "bookings": PinnedStream(version=12, files=("/archive/bookings/a.parquet",), events=7, chain_hash="ab")
}


def run(file: Path, *statements: str) -> None:
    """Run statements in a database file."""
    with closing(duckdb.connect(str(file))) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(file: Path, query: str) -> list[Any]:
    """Read from a database file as an analyst's tool does."""
    with closing(duckdb.connect(str(file), read_only=True)) as connection:
        return connection.execute(query).fetchall()


def build_and_publish(warehouse: Path, *statements: str, mode: str = "rebuild", keep: int = 3) -> BuildRecord:
    """Publish a build that the statements fill."""
    with start_build(warehouse, mode=mode, streams=BOOKINGS) as build:
        run(build.file, *statements)
        return publish(build, MadeBy("a test"), keep=keep)


def test_a_published_build_is_what_readers_of_the_link_see(tmp_path: Path) -> None:
    """The link is relative, so that a copied warehouse works as it is."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat")
    assert rows(layout.current_link(tmp_path), "select seat from seats") == [(1,)]
    assert not layout.current_link(tmp_path).readlink().is_absolute()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert rows(layout.current_link(moved), "select seat from main.seats") == [(1,)]


def test_views_work_under_the_name_that_readers_open(tmp_path: Path) -> None:
    """DuckDB stores the database's name in views; a build has the same one as the published link."""
    build_and_publish(
        tmp_path,
        "create table seats as select 1 as seat",
        "create view taken as select * from current.main.seats",
    )
    assert rows(layout.current_link(tmp_path), "select seat from taken") == [(1,)]
    assert rows(layout.current_link(tmp_path), "select mart, rows from build_marts") == [
        ("seats", 1),
        ("taken", 1),
    ]


def test_a_view_that_reads_beyond_the_file_is_never_published(tmp_path: Path) -> None:
    """Readers would only find out when they query it; publishing finds out before."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat")
    with pytest.raises(MartUnreadable, match="mart taken"):
        build_and_publish(
            tmp_path,
            "attach ':memory:' as elsewhere",
            "create table elsewhere.seats as select 1 as seat",
            "create view taken as select * from elsewhere.seats",
        )
    assert rows(layout.current_link(tmp_path), "select seat from seats") == [(1,)]


def test_a_build_says_what_it_is(tmp_path: Path) -> None:
    """`build_info`, `build_streams` and `build_marts` tell the same as `read_published`."""
    published = build_and_publish(tmp_path, "create table seats as select unnest([1, 2]) as seat")
    assert published.build_id == current_build_id(tmp_path)
    assert (published.mode, published.built_by, published.versions) == ("rebuild", "a test", {"bookings": 12})
    assert [(mart.mart, mart.rows) for mart in published.marts] == [("seats", 2)]
    assert published.started_at <= published.finished_at
    link = layout.current_link(tmp_path)
    assert rows(link, "select build_id, mode, built_by from build_info") == [
        (published.build_id, "rebuild", "a test")
    ]
    assert rows(link, "from build_streams") == [("bookings", 12, 7, "ab")]
    assert rows(link, "select mart, rows, digest from build_marts") == [
        ("seats", 2, published.marts[0].digest)
    ]
    assert read_published(tmp_path) == published


def test_a_build_pins_the_files_that_it_may_see(tmp_path: Path) -> None:
    """What dbt is told stands beside the build; what of it is worth keeping is in the record afterwards."""
    with start_build(tmp_path, mode="rebuild", streams=BOOKINGS) as build:
        environment = build.environment()
        assert environment["EVENT_ARCHIVE_BUILD_FILE"] == str(build.file)
        pinned = json.loads(Path(environment["EVENT_ARCHIVE_SNAPSHOT"]).read_text(encoding="utf-8"))
        run(build.file, "create table seats as select 1 as seat")
        published = publish(build, MadeBy("a test"))
    assert pinned["build_id"] == published.build_id
    assert pinned["streams"]["bookings"]["version"] == 12
    assert pinned["streams"]["bookings"]["files"] == ["/archive/bookings/a.parquet"]
    assert published.streams == {"bookings": StreamRecord(version=12, events=7, chain_hash="ab")}


def test_a_refresh_goes_on_from_the_published_tables_and_a_rebuild_from_none(tmp_path: Path) -> None:
    """A refresh starts from a copy; a rebuild has nothing of the older build."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat")
    build_and_publish(tmp_path, "insert into seats values (2)", mode="refresh")
    assert rows(layout.current_link(tmp_path), "select seat from seats order by 1") == [(1,), (2,)]
    build_and_publish(tmp_path, "create table carts as select 3 as cart")
    assert rows(layout.current_link(tmp_path), "select table_name from duckdb_tables() order by 1") == [
        ("build_info",),
        ("build_marts",),
        ("build_models",),
        ("build_streams",),
        ("carts",),
    ]


def test_the_first_refresh_starts_from_nothing(tmp_path: Path) -> None:
    """Nobody has to know whether something has been published yet."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat", mode="refresh")
    assert rows(layout.current_link(tmp_path), "from seats") == [(1,)]


def test_a_build_that_fails_leaves_the_published_one_in_place(tmp_path: Path) -> None:
    """An error in the block, or a block that doesn't publish, throws the build away and lets the next one start."""
    first = build_and_publish(tmp_path, "create table seats as select 1 as seat")

    def fill_and_fail(build: Build) -> None:
        run(build.file, "delete from seats")
        raise RuntimeError("a check failed")

    with (
        pytest.raises(RuntimeError, match="a check failed"),
        start_build(tmp_path, mode="refresh", streams={}) as build,
    ):
        fill_and_fail(build)
    with start_build(tmp_path, mode="refresh", streams={}) as build:
        run(build.file, "delete from seats")
    assert read_published(tmp_path) == first
    assert rows(layout.current_link(tmp_path), "from seats") == [(1,)]
    assert list(layout.building_folder(tmp_path).iterdir()) == []
    build_and_publish(tmp_path, "insert into seats values (2)", mode="refresh")
    assert len(rows(layout.current_link(tmp_path), "from seats")) == 2


def test_two_builds_of_one_warehouse_never_run_at_once(tmp_path: Path) -> None:
    """The second is told in a sentence who is building, and succeeds later."""
    with start_build(tmp_path, mode="rebuild", streams={}) as build:
        with pytest.raises(WarehouseBusy, match="wait until it has ended"):
            start_build(tmp_path, mode=BuildMode.REFRESH, streams={})
        run(build.file, "create table seats as select 1 as seat")
        publish(build, MadeBy("a test"))
    build_and_publish(tmp_path, mode="refresh")


def test_a_build_that_waits_sees_what_was_archived_meanwhile(tmp_path: Path) -> None:
    """It is pinned and copied once it is its turn, never before: else it would go back behind the published one."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat")
    newest = 12

    def end_the_first(first: Build) -> None:
        nonlocal newest
        run(first.file, "insert into seats values (2)")
        newest = 13
        publish(first, MadeBy("the first"))

    first = start_build(tmp_path, mode="refresh", streams=BOOKINGS)
    ending = threading.Timer(0.5, end_the_first, [first])
    ending.start()
    with start_build(
        tmp_path,
        mode="refresh",
        streams=lambda: {"bookings": PinnedStream(version=newest, files=(), events=0)},
        wait_seconds=30,
    ) as second:
        ending.join()
        assert second.streams["bookings"].version == 13
        publish(second, MadeBy("the second"))
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(2,)]


def test_a_build_that_started_from_an_older_state_is_refused(tmp_path: Path) -> None:
    """Even if someone removes the lock file, the newer publication is not overwritten."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat")
    with start_build(tmp_path, mode="refresh", streams={}) as late:
        (tmp_path / layout.LOCK_NAME).unlink()
        # Its own folder would be cleared as abandoned by the second build: that is what the lock is for.
        newer = build_and_publish(tmp_path, "insert into seats values (2)", mode="refresh")
        late.folder.mkdir()
        late.snapshot_file.write_text("{}")
        run(late.file, "create table seats as select 3 as seat")
        with pytest.raises(BuildSuperseded, match="Run it again"):
            publish(late, MadeBy("a late writer"))
    assert read_published(tmp_path) == newer
    assert (
        layout.build_ids_with_file(tmp_path)[-1]
        == layout.build_ids_with_record(tmp_path)[-1]
        == newer.build_id
    )


def test_only_the_newest_builds_are_kept_and_open_readers_go_on(tmp_path: Path) -> None:
    """A reader of a removed build still reads it; the folder holds the last three."""
    build_and_publish(tmp_path, "create table seats as select 1 as seat from range(100000)")
    oldest = published_file(tmp_path)
    assert oldest is not None
    with closing(duckdb.connect(str(oldest), read_only=True)) as reader:
        for _ in range(4):
            build_and_publish(tmp_path, "insert into seats values (2)", mode="refresh")
        assert not oldest.exists()
        assert reader.execute("select count(*), max(seat) from seats").fetchall() == [(100000, 1)]
    assert len(layout.build_ids_with_file(tmp_path)) == 3
    assert len(layout.build_ids_with_record(tmp_path)) == 5
    assert layout.build_ids_with_file(tmp_path)[-1] == current_build_id(tmp_path)


def test_a_published_file_has_no_write_permission(tmp_path: Path) -> None:
    """A tool that opens the file for writing by mistake is refused by the file system."""
    published = build_and_publish(tmp_path, "create table seats as select 1 as seat")
    assert stat.S_IMODE(layout.build_file(tmp_path, published.build_id).stat().st_mode) == 0o444


def test_a_file_in_the_place_of_the_link_is_never_overwritten(tmp_path: Path) -> None:
    """Someone's own database of that name stays; the sentence says what to do."""
    run(layout.current_link(tmp_path), "create table precious as select 1")
    with start_build(tmp_path, mode="refresh", streams={}) as build:
        run(build.file, "create table seats as select 1 as seat")
        with pytest.raises(StorageError, match="move it away"):
            publish(build, MadeBy("a test"))
    assert rows(layout.current_link(tmp_path), "from precious") == [(1,)]


def test_build_ids_sort_by_time_even_if_the_clock_is_set_back() -> None:
    """A new build is always named behind the published one."""
    future = "29991231T235959999998Z-ffffff"
    assert layout.new_build_id(after=future) > future
    first = layout.new_build_id()
    assert layout.is_build_id(first)
    assert layout.new_build_id(after=first) > first
    assert not layout.is_build_id("../" + first)


def test_a_damaged_published_file_says_that_a_rebuild_helps_and_it_does(tmp_path: Path) -> None:
    """Nothing is kept in the warehouse alone: the way out is always to compute it again."""
    assert read_published(tmp_path) is None
    published = build_and_publish(tmp_path, "create table seats as select 1 as seat")
    file = layout.build_file(tmp_path, published.build_id)
    file.chmod(0o644)
    file.write_bytes(b"no database")
    with pytest.raises(BuildUnreadable, match="run a rebuild"):
        read_published(tmp_path)
    build_and_publish(tmp_path, "create table seats as select 1 as seat", mode="rebuild")
    assert rows(layout.current_link(tmp_path), "from seats") == [(1,)]
