"""A log with right hashes that lies about its files, or about itself, is found out."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from event_archive import layout
from event_archive.archive.history import iter_entries
from event_archive.archive.log import SegmentFact, seal_entry
from event_archive.archive.segments import encode_segment
from event_archive.archive.state import decode_state, encode_state
from event_archive.compaction.days import compact_stream
from event_archive.sealing import seal
from event_archive.verify import Scope, VerifyReport, verify_stream
from tests.verify.forging import Actions, Facts, added, rechain, rewrite, with_column

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project

DEEP = Scope(is_deep=True)


@pytest.fixture
def archived(project: Project) -> Project:
    """A project with some commits."""
    for number in range(6):
        project.write(
            f"{number % 3}-{number}.jsonl", b"".join(b'{"line": %d}\n' % line for line in range(80))
        )
        project.ingest()
    assert verify(project).is_whole
    return project


def verify(project: Project, scope: Scope | None = None) -> VerifyReport:
    """The proof of the stream."""
    return verify_stream(project.config(), "events", scope=scope or Scope())


def faults(project: Project, scope: Scope | None = None) -> str:
    """All that is found, in one text."""
    return "; ".join(str(damage) for damage in verify(project, scope).damages)


def edit_stats(
    version: int, change: Callable[[dict[str, Any]], None]
) -> Callable[[int, Facts, Actions], None]:
    """An edit of the statistics that an entry has of its file."""

    def edit(number: int, facts: Facts, actions: Actions) -> None:
        if number == version:
            add = added(actions)
            stats = json.loads(add["stats"])
            change(stats)
            add["stats"] = json.dumps(stats)

    return edit


@pytest.mark.parametrize("bound", ["minValues", "maxValues"])
@pytest.mark.parametrize("column", ["source_offset", "commit_version", "source_partition"])
def test_statistics_by_which_readers_leave_files_out_must_be_true(
    archived: Project, bound: str, column: str
) -> None:
    """Else a query would silently miss events."""
    rechain(archived, edit_stats(2, lambda stats: stats[bound].update({column: stats[bound][column] + 1})))
    assert f"values of {column} within other bounds than the statistics in the log" in faults(archived)


def test_times_in_statistics_are_in_whole_milliseconds_and_true(archived: Project) -> None:
    """A millisecond beside is a lie."""
    moved = {"ingested_at": "2026-01-01T00:00:00.000Z"}
    rechain(archived, edit_stats(2, lambda stats: stats["maxValues"].update(moved)))
    assert "values of ingested_at within other bounds" in faults(archived)


def test_nulls_in_statistics_must_be_true(archived: Project) -> None:
    """Those of columns that a source gives only if they are decoded."""
    rechain(archived, edit_stats(2, lambda stats: stats["nullCount"].update(event_time=0)))
    assert "nulls in event_time" in faults(archived)


def test_nulls_of_values_are_counted_when_values_are_decoded(archived: Project) -> None:
    """The file itself has no statistics of them."""
    rechain(archived, edit_stats(2, lambda stats: stats["nullCount"].update(value=1)))
    assert verify(archived).is_whole
    assert "has 0 nulls in value" in faults(archived, DEEP)


def test_rows_in_another_order_are_found(archived: Project) -> None:
    """Every offset is there, and yet."""
    path = rewrite(archived, 2, lambda rows: rows.take([1, 0, *range(2, rows.num_rows)]))
    assert str(path) in faults(archived)
    assert "other values of source_offset" in faults(archived)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("commit_version", 7),
        ("source_partition", 1),
        ("ingested_at", dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        ("source_id", "file:other.jsonl"),
    ],
)
def test_a_row_that_says_another_place_than_the_commit_claims_is_found(
    archived: Project, column: str, value: Any
) -> None:
    """One row is enough."""

    def change(rows: Any) -> Any:
        values = rows[column].to_pylist()
        return with_column(rows, column, [*values[:-1], value])

    rewrite(archived, 2, change)
    assert f"holds other values of {column}" in faults(archived)


def test_a_row_with_another_ingest_date_than_its_partition_is_found(archived: Project) -> None:
    """Readers prune by the folder."""
    rewrite(
        archived,
        2,
        lambda rows: with_column(rows, "ingest_date", [dt.date(2020, 1, 1)] * rows.num_rows),
    )
    assert "another ingest_date than the partition" in faults(archived)


def test_another_value_is_found_by_its_row_digest(archived: Project) -> None:
    """The hash of the file is right: without --deep nothing is wrong with it, with --deep the stretch is named."""

    def change(rows: Any) -> Any:
        return with_column(rows, "value", [b"forged", *rows["value"].to_pylist()[1:]])

    rewrite(archived, 2, change)
    assert verify(archived).is_whole
    report = verify(archived, DEEP)
    assert "a row digest differs" in str(report.damages[0])
    assert report.damages[0].affected.startswith("offsets of file:")
    assert report.damages[0].affected.count(" to ") == 1


def test_a_file_with_other_row_groups_than_its_commit_says_is_found(archived: Project) -> None:
    """It could not be made again byte for byte."""

    def edit(version: int, facts: Facts, _actions: Actions) -> None:
        if version == 2:
            (rows,) = facts["rowGroups"]
            facts["rowGroups"] = [1, rows - 1]

    rechain(archived, edit)
    assert "has other row groups" in faults(archived)


def test_delta_s_own_transaction_versions_count_the_events(archived: Project) -> None:
    """Writers of the format use them to write exactly once."""

    def edit(version: int, _facts: Facts, actions: Actions) -> None:
        if version == 2:
            next(action["txn"] for action in actions if "txn" in action)["version"] += 1

    rechain(archived, edit)
    assert "has a txn version of" in faults(archived)


def test_the_partition_in_the_log_is_the_folder(archived: Project) -> None:
    """Delta's readers take the value from the log."""

    def edit(version: int, _facts: Facts, actions: Actions) -> None:
        if version == 2:
            added(actions)["partitionValues"] = {"ingest_date": "2020-01-01"}

    rechain(archived, edit)
    assert "lies in another partition" in faults(archived)


def test_files_are_removed_by_compaction_only(archived: Project) -> None:
    """A `remove` without what took its place loses events for Delta's readers."""
    gone: list[str] = []

    def edit(version: int, _facts: Facts, actions: Actions) -> None:
        if version == 2:
            gone.append(added(actions)["path"])
        if version == 3:
            actions.append({"remove": {"path": gone[0], "dataChange": False}})

    rechain(archived, edit)
    assert "removes files, though it is no compaction" in faults(archived)


def test_a_commit_that_goes_on_elsewhere_than_the_ones_before_ended_is_found(archived: Project) -> None:
    """Events in between would be lost, or doubled."""

    def edit(version: int, facts: Facts, _actions: Actions) -> None:
        if version == 2:
            facts["positions"]["first_record"][0] += 1

    rechain(archived, edit)
    assert "goes on at offset" in faults(archived)


def compact(project: Project) -> int:
    """Compacts today; gives the version of the commit that did it."""
    compact_stream(project.config(), "events", until=dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1))
    return next(
        int(path.stem)
        for path in sorted((project.table / layout.LOG_FOLDER).glob("[0-9]*.json"), reverse=True)
        if '"COMPACT"' in path.read_text()
    )


def test_rows_of_a_compacted_file_keep_the_commit_that_brought_them(archived: Project) -> None:
    """All offsets may be right, and yet the archive as of a commit would be another."""
    version = compact(archived)
    assert verify(archived, DEEP).is_whole

    def change(rows: Any) -> Any:
        versions = rows["commit_version"].to_pylist()
        return with_column(rows, "commit_version", [min(versions), *versions[1:-1], min(versions)])

    rewrite(archived, version, change)
    assert "holds other values of commit_version" in faults(archived)


def test_a_compaction_that_drops_a_stretch_is_found(archived: Project) -> None:
    """Its inputs had one more."""
    version = compact(archived)

    def edit(number: int, facts: Facts, _actions: Actions) -> None:
        if number == version:
            facts["compacted"]["outputs"][0]["spans"] -= 1

    rechain(archived, edit)
    assert "with fewer or more stretches" in faults(archived)


def test_a_state_that_says_something_else_than_the_log_is_found(archived: Project) -> None:
    """With its hash made right in the commit that names it."""
    seal(archived.store, at_least=2)
    newest = max((archived.table / layout.LOG_FOLDER).glob("[0-9]*.json"))
    (path,) = (archived.table / layout.OWN_FOLDER).glob("state-*")
    state = decode_state(path.read_bytes())
    lying = encode_state(replace(state, files=state.files[:-1]))
    digest = hashlib.sha256(lying).hexdigest()
    name = layout.state_name(state.version, digest)
    (archived.table / name).write_bytes(lying)
    path.unlink()

    def edit(version: int, facts: Facts, _actions: Actions) -> None:
        if version == int(newest.stem):
            facts["sealed"] |= {"state": name, "stateSha256": digest}

    rechain(archived, edit)
    report = verify(archived)
    assert [damage.name for damage in report.damages] == [name]
    assert "other files than the log" in report.damages[0].reason


@pytest.mark.parametrize(
    "name",
    [
        f"{0:020d}.{2:020d}.compacted.json",
        f"{2:020d}.checkpoint.{1:010d}.{1:010d}.parquet",
        f"{2:020d}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json",
        f"{999:020d}.checkpoint.parquet",
        f"{2:020d}.crc",
    ],
)
def test_what_delta_s_readers_take_in_place_of_entries_must_be_ours(archived: Project, name: str) -> None:
    """They would see another table."""
    path = archived.table / layout.LOG_FOLDER / name
    path.write_bytes(b"{}\n")
    assert str(path) in faults(archived)


def test_a_damaged_segment_of_no_seal_is_found(archived: Project) -> None:
    """Readers of the history go by its name."""
    seal(archived.store, at_least=2)
    (path,) = (archived.table / layout.OWN_FOLDER).glob("entries-*")
    other = path.with_name(path.name.replace(path.name[-20:], "0123456789abcdef.zst"))
    other.write_bytes(path.read_bytes())
    assert verify(archived).is_whole
    assert verify(archived).unreferenced == (str(other),)
    other.write_bytes(path.read_bytes()[:-1])
    assert str(other) in faults(archived)


def test_files_of_lost_entries_are_proved_by_the_state(archived: Project) -> None:
    """A segment is gone, and its entries have left the log folder: the state still knows the hashes of their files."""
    seal(archived.store, at_least=2)
    for number in range(4):
        archived.write(f"more-{number}.jsonl", b"more\n")
        archived.ingest()
    seal(archived.store, at_least=2)
    first = min((archived.table / layout.OWN_FOLDER).glob("entries-*"))
    first.unlink()
    lost = next(archived.table.glob("*/commit-00000000000000000002-*"))
    assert [damage.path for damage in verify(archived).damages] == [str(first)]
    assert verify(archived).files == 10
    lost.write_bytes(lost.read_bytes()[:-1] + b"x")
    assert [damage.path for damage in verify(archived).damages] == [str(first), str(lost)]


def test_a_checkpoint_that_names_other_files_than_are_active_is_found(archived: Project) -> None:
    """Delta's readers believe it; here it is one of an older version."""
    seal(archived.store, at_least=2)
    (path,) = (archived.table / layout.LOG_FOLDER).glob("*.checkpoint.parquet")
    newest = max(archived.table.joinpath(layout.LOG_FOLDER).glob("[0-9]*.json"))
    assert verify(archived).is_whole
    other = path.with_name(f"{int(newest.stem) - 3:020d}.checkpoint.parquet")
    path.rename(other)
    assert "names other files than were active" in faults(archived)
    assert str(path) in faults(archived)


def test_a_commit_that_names_a_file_twice_is_found(archived: Project) -> None:
    """Though the two stretches lie one after the other, and the counts are right."""

    def edit(version: int, facts: Facts, _actions: Actions) -> None:
        if version == 4:
            positions = facts["positions"]
            for column in positions.values():
                column.append(column[0])
            positions["first_record"][1] = positions["records"][0]

    rechain(archived, edit)
    assert "names file:0-3.jsonl twice" in faults(archived)


def test_segments_that_overlap_are_as_good_if_their_entries_are_the_same(archived: Project) -> None:
    """A seal may have sealed again what an earlier one had; a hole between them is none."""
    seal(archived.store, at_least=2)
    archived.write("more.jsonl", b"more\n")
    archived.ingest()
    seal(archived.store, at_least=2)
    first, second = sorted((archived.table / layout.OWN_FOLDER).glob("entries-*"))
    assert layout.segment_range(first.name) == (0, 6)
    assert layout.segment_range(second.name) == (7, 8)
    newest = layout.entry_name(9)
    entries = dict(iter_entries(archived.store))
    overlapping = encode_segment(5, [entries[version] for version in range(5, 9)])
    assert seal_again(archived, newest, 5, overlapping) == ""
    other = encode_segment(5, [entries[5], entries[6][:-1] + b" ", entries[7], entries[8]])
    assert "entries-00000000000000000005" in seal_again(archived, newest, 5, other)
    beginning = encode_segment(8, [entries[8]])
    assert "sealed before" in seal_again(archived, newest, 8, beginning)


def seal_again(project: Project, newest: str, first: int, content: bytes) -> str:
    """Lets the newest seal name this segment, and gives what is found."""
    digest = hashlib.sha256(content).hexdigest()
    name = layout.segment_name(first, 8, digest)
    (project.table / name).write_bytes(content)
    fact = SegmentFact(first, 8, name, digest)
    lines = [json.loads(line) for line in (project.table / newest).read_text().splitlines()]
    info = lines[0]["commitInfo"]
    facts = info.pop("eventArchive")
    del facts["entrySha256"]
    (state_path,) = (project.table / layout.OWN_FOLDER).glob(f"state-{8:020d}-*")
    state = decode_state(state_path.read_bytes())
    told = encode_state(replace(state, segments=(*state.segments[:1], fact)))
    state_sha256 = hashlib.sha256(told).hexdigest()
    state_path.unlink()
    state_name = layout.state_name(8, state_sha256)
    (project.table / state_name).write_bytes(told)
    facts["sealed"] |= {"segments": [asdict(fact)], "state": state_name, "stateSha256": state_sha256}
    (project.table / newest).write_bytes(seal_entry(lines[1:], facts, info))
    return faults(project)
