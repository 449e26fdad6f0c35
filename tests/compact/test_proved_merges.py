"""What is merged is compared before it counts: a disk that forgets and a merge that errs are found out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from event_archive.archive.rearrange import Rearranger
from event_archive.compaction.days import compact_stream
from event_archive.storage.folder import FolderStore
from tests.compact.compacting import compacted, names_in
from tests.compact.topic_archive import (
    a_day_of_commits,
    all_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project

A_DAY = dt.timedelta(days=1)


class _Forgetful(FolderStore):
    """A folder whose disk gives back other bytes than were written."""

    def __init__(self, folder: Any, spoil: Callable[[bytes], bytes]) -> None:
        super().__init__(folder)
        self._spoil = spoil

    def hashed(self, name: str, **options: Any) -> Any:
        if "compacted" in name:
            path = self.path(name)
            path.write_bytes(self._spoil(path.read_bytes()))
        return super().hashed(name, **options)


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b[:60] + bytes([b[60] ^ 4]) + b[61:], lambda b: b[:0]],
    ids=["cut", "flipped", "empty"],
)
def test_what_a_disk_gives_back_is_compared_before_it_counts(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes]
) -> None:
    """The files that would be replaced stay, and the new one is removed."""
    table = topic_project.store
    a_day_of_commits(table)
    before, rows = names_in(table), all_rows(table)
    config = topic_project.config()
    monkeypatch.setattr(type(config), "table", lambda *_: _Forgetful(topic_project.table, spoil))
    result = compact_stream(config, "events")
    assert "gave back other bytes" in result.problems[0]
    assert result.compacted == ()
    assert names_in(table) == before
    assert all_rows(table) == rows


def _dropped(rows: Any) -> Any:
    return rows.slice(1)


def _swapped(rows: Any) -> Any:
    return rows.take([1, 0, *range(2, rows.num_rows)])


def _doubled(rows: Any) -> Any:
    return rows.take([0, 0, *range(2, rows.num_rows)])


def _relabelled(rows: Any) -> Any:
    return _with_second(rows, "commit_version", lambda version: version + 1)


def _moved(rows: Any) -> Any:
    return _with_second(rows, "source_partition", lambda partition: partition + 1)


def _renamed(rows: Any) -> Any:
    return _with_second(rows, "source_id", lambda source_id: source_id + "#2")


def _with_second(rows: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Rows with another value of a column in the second of them, which is in the same span as the first."""
    place = rows.schema.get_field_index(name)
    first, second, *rest = rows[name].to_pylist()
    kind = rows.schema.field(place).type
    values = pa.array([first, change(second), *rest])
    values = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    return rows.set_column(place, rows.schema.field(place), values)


@pytest.mark.parametrize("bug", [_dropped, _swapped, _doubled, _relabelled, _moved, _renamed])
def test_a_merge_that_errs_is_found_out(
    topic_project: Project, monkeypatch: pytest.MonkeyPatch, bug: Callable[[Any], Any]
) -> None:
    """A bug on the way from the old files to the new one can't hide itself: the commits' digests say what there must be."""
    table = topic_project.store
    a_day_of_commits(table)
    before = names_in(table)
    rows = Rearranger.rows

    def wrong(rearranger: Rearranger, **options: Any) -> Any:
        for number, part in enumerate(rows(rearranger, **options)):
            yield part if number else bug(part)

    monkeypatch.setattr(Rearranger, "rows", wrong)
    result = compacted(topic_project)
    assert len(result.problems) == 1
    assert "nothing was replaced" in result.problems[0]
    assert names_in(table) == before
