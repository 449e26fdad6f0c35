"""Builds that wait, builds that one goes back to, builds that are removed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.errors import StorageError, UsageError
from event_archive.warehouse import (
    BuildSuperseded,
    BuildUnreadable,
    MadeBy,
    WarehouseBusy,
    current_build_id,
    find_build,
    finish,
    layout,
    list_builds,
    publish_waiting,
    published_file,
    read_published,
    roll_back,
    start_build,
    switch,
)
from event_archive.warehouse.switching import read_switches
from tests.warehouse.builders import SEATS, bookings, published, rows, run, waiting

if TYPE_CHECKING:
    from pathlib import Path


def states(warehouse: Path) -> dict[str, str]:
    """What has become of each build, newest first."""
    return {build.build_id: build.state.value for build in list_builds(warehouse)}


def test_a_finished_build_is_not_seen_until_it_is_switched_in(tmp_path: Path) -> None:
    """Between the two, what differs can be looked at, with the lock held."""
    first = published(tmp_path, SEATS)
    with start_build(tmp_path, mode="refresh", streams={}) as build:
        run(build.file, "delete from seats")
        finished = finish(build, MadeBy("a test"))
        assert read_published(tmp_path) == first
        assert rows(layout.build_file(tmp_path, finished.build_id), "select count(*) from seats") == [(0,)]
        with pytest.raises(WarehouseBusy):
            roll_back(tmp_path)
        assert switch(build) == finished
    assert read_published(tmp_path) == finished


def test_a_finished_build_that_is_not_switched_in_waits_and_is_published_later(tmp_path: Path) -> None:
    """Also when other builds start and end meanwhile; a refresh goes on from the published one, not from it."""
    first = published(tmp_path, SEATS, events=10)
    wait = waiting(tmp_path, "delete from seats where seat = 1", version=1, events=12)
    assert states(tmp_path) == {wait.build_id: "waiting", first.build_id: "live"}
    start_build(tmp_path, mode="rebuild", streams={}).discard("it only clears away")
    third = published(tmp_path, "insert into seats values (99, 'new')", version=2, events=15)
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(11,)]
    assert states(tmp_path) == {third.build_id: "live", wait.build_id: "waiting", first.build_id: "kept"}
    done = publish_waiting(tmp_path, wait.build_id)
    assert (done.now, done.before, done.events_behind) == (wait, third, {"bookings": 3})
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(9,)]
    assert states(tmp_path) == {third.build_id: "kept", wait.build_id: "live", first.build_id: "kept"}


def test_an_error_after_finishing_leaves_the_build_waiting(tmp_path: Path) -> None:
    """Ctrl-C at the question whether to publish is no reason to throw hours of work away."""

    def finish_and_be_interrupted() -> None:
        with start_build(tmp_path, mode="rebuild", streams={}) as build:
            run(build.file, SEATS)
            finish(build, MadeBy("a test"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish_and_be_interrupted()
    assert list(states(tmp_path).values()) == ["waiting"]
    assert list(layout.building_folder(tmp_path).iterdir()) == []
    publish_waiting(tmp_path, next(iter(states(tmp_path))))
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(10,)]


def test_going_back_and_forth_between_builds(tmp_path: Path) -> None:
    """By default to the one that was published before, again and again; the next refresh goes on from there."""
    made = [
        published(
            tmp_path, SEATS if number == 0 else f"delete from seats where seat = {number}", events=number
        )
        for number in range(3)
    ]
    assert roll_back(tmp_path).now == made[1]
    assert roll_back(tmp_path).now == made[0]
    with pytest.raises(UsageError, match="the first one here"):
        roll_back(tmp_path)
    done = roll_back(tmp_path, made[2].build_id)
    assert (done.now, done.before, done.events_behind) == (made[2], made[0], {})
    assert roll_back(tmp_path, made[1].build_id).events_behind == {"bookings": 1}
    newer = published(tmp_path, "delete from seats where seat = 5")
    assert newer.based_on == made[1].build_id
    assert newer.build_id > made[2].build_id
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(8,)]
    assert roll_back(tmp_path).now == made[1], (
        "the one that was live before, not the one of the next lower name"
    )
    switches = [(entry.build_id, entry.is_rollback) for entry in read_switches(tmp_path)]
    assert switches[-3:] == [(made[1].build_id, True), (newer.build_id, False), (made[1].build_id, True)]


def test_going_back_from_a_build_that_had_waited_leads_to_what_was_live(tmp_path: Path) -> None:
    """Not to the build from which it was made long ago."""
    published(tmp_path, SEATS)
    wait = waiting(tmp_path)
    newest = published(tmp_path)
    publish_waiting(tmp_path, wait.build_id)
    assert roll_back(tmp_path).now == newest


def test_builds_newer_than_the_live_one_are_there_after_a_rollback(tmp_path: Path) -> None:
    """The next build clears away what is abandoned, and that isn't."""
    made = [published(tmp_path, SEATS) for _ in range(3)]
    roll_back(tmp_path)
    start_build(tmp_path, mode="rebuild", streams={}).discard("it only clears away")
    assert states(tmp_path) == dict(
        zip([build.build_id for build in reversed(made)], ["kept", "live", "kept"], strict=True)
    )


def test_readers_of_either_build_go_on_through_a_rollback(tmp_path: Path) -> None:
    """Who has the newer one open reads on; who opens the link afterwards gets the older one."""
    published(tmp_path, SEATS)
    published(tmp_path, "create or replace table seats as select range as seat from range(100000)")
    newer = published_file(tmp_path)
    assert newer is not None
    with closing(duckdb.connect(str(newer), read_only=True)) as reader:
        roll_back(tmp_path)
        assert reader.execute("select count(*) from seats").fetchall() == [(100000,)]
        assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(10,)]


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_live_build_those_live_before_it_and_the_newest_that_waits_stay(
    tmp_path: Path, keep: int
) -> None:
    """However old the live one is after a rollback; one that waits for a person takes nobody's room."""
    made = [published(tmp_path, SEATS, keep=10) for _ in range(6)]
    roll_back(tmp_path, made[0].build_id)
    wait = waiting(tmp_path, keep=keep)
    beside = [build.build_id for build in made[1:]][len(made) - 1 - (keep - 1) :]
    assert layout.build_ids_with_file(tmp_path) == [made[0].build_id, *beside, wait.build_id]
    assert list(states(tmp_path).values()).count("removed") == 7 - 2 - len(beside)
    assert len(layout.build_ids_with_record(tmp_path)) == 7


def test_the_build_that_one_went_back_to_stays_longer_than_those_one_left(tmp_path: Path) -> None:
    """The next refresh goes on from it; whoever made it live may want it again."""
    good, bad, worse = (published(tmp_path, SEATS) for _ in range(3))
    roll_back(tmp_path, good.build_id)
    new = published(tmp_path, SEATS, keep=2)
    assert layout.build_ids_with_file(tmp_path) == [good.build_id, new.build_id]
    assert roll_back(tmp_path).now == good
    assert {bad.build_id, worse.build_id} <= set(layout.build_ids_with_record(tmp_path))


def test_builds_that_only_wait_take_no_room_from_those_one_can_go_back_to(tmp_path: Path) -> None:
    """A schedule that makes one each hour, which nobody publishes."""
    first, second = published(tmp_path, SEATS), published(tmp_path, SEATS)
    waits = [waiting(tmp_path) for _ in range(5)]
    assert layout.build_ids_with_file(tmp_path) == [first.build_id, second.build_id, waits[-1].build_id]
    assert roll_back(tmp_path).now == first


def test_a_build_that_is_not_there_is_a_wrong_usage_that_says_what_there_is(tmp_path: Path) -> None:
    """Of a removed one it says how to get it back; nothing that isn't a build's name gets near a path."""
    with pytest.raises(UsageError, match="refresh"):
        roll_back(tmp_path / "nowhere")
    made = [published(tmp_path, SEATS, keep=2) for _ in range(3)]
    live = current_build_id(tmp_path)
    for name in ("../../etc/passwd", "live", "20260131T000000000000Z-abcdef", ""):
        with pytest.raises(UsageError, match=f"There are: {made[2].build_id}, {made[1].build_id}"):
            roll_back(tmp_path, name)
        with pytest.raises(UsageError, match="There are"):
            publish_waiting(tmp_path, name)
    with pytest.raises(
        UsageError, match=f"only the record is left; `event-archive rebuild --as-of {made[0].build_id}"
    ):
        roll_back(tmp_path, made[0].build_id)
    with pytest.raises(UsageError, match="only the record is left"):
        find_build(tmp_path, made[0].build_id)
    assert find_build(tmp_path, "live") == published_file(tmp_path)
    assert current_build_id(tmp_path) == live


def test_a_damaged_build_is_not_switched_in_but_left_behind(tmp_path: Path) -> None:
    """Going back to it is refused; going back from it is the way out."""
    first, second = published(tmp_path, SEATS), published(tmp_path, SEATS)
    file = layout.build_file(tmp_path, first.build_id)
    whole = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(b"no database")
    with pytest.raises(BuildUnreadable):
        roll_back(tmp_path)
    assert current_build_id(tmp_path) == second.build_id
    file.write_bytes(layout.build_file(tmp_path, second.build_id).read_bytes())
    with pytest.raises(BuildUnreadable, match="put there by hand"):
        roll_back(tmp_path)
    file.write_bytes(whole)
    live = layout.build_file(tmp_path, second.build_id)
    live.chmod(0o644)
    live.write_bytes(b"no database")
    assert roll_back(tmp_path).now == first


def test_a_build_whose_record_is_damaged_is_listed_by_what_its_file_says(tmp_path: Path) -> None:
    """And one of which nothing can be read is listed too."""
    first, second = published(tmp_path, SEATS, keep=1), published(tmp_path, SEATS, keep=1)
    for build in (first, second):
        record = layout.record_file(tmp_path, build.build_id)
        record.chmod(0o644)
        record.write_text("{")
    newest, oldest = list_builds(tmp_path)
    assert (newest.state, newest.record, newest.problem) == ("live", second, None)
    assert (oldest.state, oldest.record) == ("removed", None)
    assert "no readable record" in (oldest.problem or "")
    start_build(tmp_path, mode="refresh", streams={}).discard(
        "a damaged record is no reason to remove its build"
    )
    assert rows(layout.current_link(tmp_path), "select count(*) from seats") == [(10,)]


def test_switching_to_the_live_build_changes_nothing(tmp_path: Path) -> None:
    """Asked for twice, it is the same as once."""
    build = published(tmp_path, SEATS)
    done = roll_back(tmp_path, build.build_id)
    assert done.now == done.before == build
    assert len(read_switches(tmp_path)) == 1


def test_a_build_finished_from_an_older_state_is_not_switched_in(tmp_path: Path) -> None:
    """Somebody has removed the lock and published in between: the late one is thrown away."""
    published(tmp_path, SEATS)
    with start_build(tmp_path, mode="refresh", streams=bookings(1, 1)) as late:
        run(late.file, "delete from seats")
        finish(late, MadeBy("a late writer"))
        (tmp_path / layout.LOCK_NAME).unlink()
        newer = published(tmp_path, "insert into seats values (99, 'new')")
        with pytest.raises(BuildSuperseded):
            switch(late)
    assert read_published(tmp_path) == newer
    assert late.build_id not in states(tmp_path)


def test_a_torn_list_of_switches_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A power cut has left half a line: it is skipped, and the next line is whole."""
    first, second = published(tmp_path, SEATS), published(tmp_path, SEATS)
    file = layout.switches_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-30])
    third = published(tmp_path, SEATS)
    assert [entry.build_id for entry in read_switches(tmp_path)] == [first.build_id, third.build_id]
    assert roll_back(tmp_path).now == second
    assert roll_back(tmp_path).now == first, "what isn't in the list is in the build's record"
    file.write_text('null\n[]\n{"build_id": "../x"}\n')
    assert read_switches(tmp_path) == []


def test_a_file_in_the_place_of_the_link_is_never_overwritten_by_a_rollback(tmp_path: Path) -> None:
    """Someone's own database of that name stays."""
    build = published(tmp_path, SEATS)
    layout.current_link(tmp_path).unlink()
    run(layout.current_link(tmp_path), "create table precious as select 1")
    with pytest.raises(StorageError, match="move it away"):
        roll_back(tmp_path, build.build_id)
    assert rows(layout.current_link(tmp_path), "from precious") == [(1,)]
