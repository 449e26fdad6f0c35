"""A build for a file of the user's: whole or not at all, never in the place of another, and the warehouse stays as it is."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive.errors import StorageError, UsageError
from event_archive.warehouse import (
    MadeBy,
    diff_builds,
    finish_into,
    layout,
    list_builds,
    published_file,
    read_build,
    read_published,
    start_build,
)
from tests.warehouse.builders import SEATS, bookings, published, rows, run

if TYPE_CHECKING:
    from event_archive.warehouse import BuildRecord

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - another file system than the tests' folder


def build_into(warehouse: Path, file: Path) -> BuildRecord:
    """Build what is published again, for a file."""
    with start_build(warehouse, mode="rebuild", streams=bookings(3, 7)) as build:
        run(build.file, SEATS)
        return finish_into(build, file, MadeBy("a test", as_of="some time ago"))


def test_the_file_says_what_it_is_and_the_warehouse_stays_as_it_is(tmp_path: Path) -> None:
    """Its digests are those of the published build; nobody's readers see it."""
    warehouse = tmp_path / "warehouse"
    live = published(warehouse, SEATS)
    record = build_into(warehouse, tmp_path / "then.duckdb")
    assert read_build(tmp_path / "then.duckdb") == record
    assert record.as_of == "some time ago"
    assert [mart.digest for mart in record.marts] == [mart.digest for mart in live.marts]
    assert read_published(warehouse) == live
    assert [build.build_id for build in list_builds(warehouse)] == [live.build_id]
    assert list(layout.building_folder(warehouse).iterdir()) == []
    assert rows(tmp_path / "then.duckdb", "select count(*) from seats") == [(10,)]
    file = published_file(warehouse)
    assert file is not None
    assert diff_builds(file, tmp_path / "then.duckdb").is_equal
    published(warehouse, SEATS)


@pytest.mark.parametrize("links", ["kept", "on another file system", "not supported"])
def test_a_file_that_exists_is_never_replaced(
    tmp_path: Path, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a link to nowhere, and a second build beside the first works; nothing half-written is left."""
    refuse_links(monkeypatch, links)
    file = tmp_path / "mine.duckdb"
    file.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        build_into(tmp_path / "warehouse", file)
    assert file.read_text() == "precious"
    dangling = tmp_path / "dangling.duckdb"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        build_into(tmp_path / "warehouse", dangling)
    build_into(tmp_path / "warehouse", tmp_path / "other.duckdb")
    assert rows(tmp_path / "other.duckdb", "select count(*) from seats") == [(10,)]
    assert stat.S_IMODE((tmp_path / "other.duckdb").stat().st_mode) == 0o444
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mine.duckdb", "dangling.duckdb", "other.duckdb", "warehouse"}


def refuse_links(monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    """Let hard links behave as between file systems, or as on one without them."""
    if links == "kept":
        return
    original = os.link

    def link(source: Path, target: Path) -> None:
        if links == "not supported":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        original(source, target)

    monkeypatch.setattr(os, "link", link)


@pytest.mark.skipif(not os.access(SHARED_MEMORY, os.W_OK), reason="there is no second file system here")
def test_the_file_may_be_on_another_file_system(tmp_path: Path) -> None:
    """It is copied there under another name first."""
    folder = SHARED_MEMORY / f"event-archive-test-{os.getpid()}"
    folder.mkdir()
    try:
        if folder.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("it is the same file system")
        build_into(tmp_path / "warehouse", folder / "then.duckdb")
        assert rows(folder / "then.duckdb", "select count(*) from seats") == [(10,)]
        assert [path.name for path in folder.iterdir()] == ["then.duckdb"]
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_folder_that_is_not_there_is_a_wrong_usage(tmp_path: Path) -> None:
    """No folders are made by a slip of the keyboard; the next build starts as if nothing had been."""
    with pytest.raises(UsageError, match="there is no folder"):
        build_into(tmp_path / "warehouse", tmp_path / "typo" / "then.duckdb")
    build_into(tmp_path / "warehouse", tmp_path / "then.duckdb")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy hits the limit: a sentence, no file and no rest of one."""
    refuse_links(monkeypatch, "on another file system")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", lambda *_: full(0))
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: full(0))
    with pytest.raises(StorageError, match="No space left"):
        build_into(tmp_path / "warehouse", tmp_path / "then.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["warehouse"]
