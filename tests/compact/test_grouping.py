"""Which files of a day a compaction puts together, by their sizes alone."""

from __future__ import annotations

import datetime as dt

from event_archive import layout
from event_archive.archive.log import DataFile
from event_archive.compaction.days import small_groups


def a_file(size_mb: float, version: int, date: str = "2026-03-01") -> DataFile:
    """A file of a commit."""
    bounds = {"commit_version": version}
    name = layout.data_file_name(dt.date.fromisoformat(date), version, "ab")
    return DataFile(name, int(size_mb * 2**20), "", 1, version, {"minValues": bounds, "maxValues": bounds})


def groups(*sizes_mb: float) -> list[list[float]]:
    """Sizes of the files that are merged with each other."""
    files = [a_file(size, version) for version, size in enumerate(sizes_mb)]
    found = small_groups(files, target_bytes=384 * 2**20, until=dt.date(2026, 3, 1))
    return [[file.size_bytes / 2**20 for file in group] for group in found]


def test_files_become_neither_too_small_nor_too_large() -> None:
    """Between 256 and 512 MB where there is so much, in groups of neighbours."""
    for count in (100, 150, 200, 333, 1440):
        sizes = [sum(group) for group in groups(*[3.0] * count)]
        assert sum(sizes) == 3.0 * count
        assert all(256 <= size <= 515 for size in sizes)
    assert groups(*[40.0] * 20) == [[40.0] * 10] * 2


def test_what_is_large_enough_is_left_alone() -> None:
    """And so is a file that would be written again for the sake of a little."""
    assert groups(192, 300, 500) == []
    assert groups(100, 500, 50) == [[100, 50]]
    assert groups(191, 1) == []
    assert groups(191, 1, 2) == [[1, 2]]
    assert groups(191, 30) == [[191, 30]]
    assert groups(7, 0.125) == [[7, 0.125]]
    assert groups(3) == []


def test_days_are_not_mixed() -> None:
    """A file lies in one partition."""
    files = [
        a_file(1, 1),
        a_file(1, 2, "2026-03-02"),
        a_file(1, 3, "2026-02-28"),
        a_file(1, 4),
        a_file(1, 5, "2026-03-02"),
    ]
    found = small_groups(files, target_bytes=384 * 2**20, until=dt.date(2026, 3, 1))
    assert [[file.commit_version for file in group] for group in found] == [[1, 4]]
