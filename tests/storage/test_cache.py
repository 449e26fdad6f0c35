"""Local copies: proved, bounded, shared, and never taken away from who uses them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from event_archive.errors import ArchiveDamaged, ConfigurationError, StorageError
from event_archive.storage.cache import LocalCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1000


def content(number: int) -> bytes:
    """A file of `SIZE` bytes."""
    return bytes([number]) * SIZE


def get(cache: LocalCache, number: int, fetched: list[int] | None = None) -> Path:
    """The copy of a file; notes that it was fetched."""

    def fetch() -> Iterator[bytes]:
        if fetched is not None:
            fetched.append(number)
        yield content(number)[:300]
        yield content(number)[300:]

    path = cache.get(hashlib.sha256(content(number)).hexdigest(), SIZE, fetch, place=f"s3://b/file-{number}")
    assert path.read_bytes() == content(number)
    return path


def in_another_process(
    folder: Path, max_bytes: int, numbers: str, *, then: str = ""
) -> subprocess.Popen[str]:
    """Gets copies in a process that says when it has them, and goes on until its input ends."""
    code = (
        "import hashlib, sys\nfrom pathlib import Path\nfrom event_archive.storage.cache import LocalCache\n"
        f"cache = LocalCache(Path({str(folder)!r}), {max_bytes})\n"
        f"for number in {numbers}:\n"
        f"    content = bytes([number]) * {SIZE}\n"
        f"    cache.get(hashlib.sha256(content).hexdigest(), {SIZE}, lambda: [content])\n"
        f"{then}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str], *, by_force: bool = False) -> None:
    """Lets the process end."""
    if by_force:
        process.kill()
    process.communicate(timeout=30)


def copies(folder: Path) -> int:
    """How many lie there."""
    return len(list(folder.glob("*.parquet")))


def test_a_copy_is_fetched_once(tmp_path: Path) -> None:
    """Also for another cache over the same folder."""
    fetched: list[int] = []
    for _ in range(3):
        assert get(LocalCache(tmp_path, 10 * SIZE), 1, fetched).name.endswith(".parquet")
    assert fetched == [1]


@pytest.mark.parametrize("damage", ["shortened", "lengthened", "changed in place", "emptied", "removed"])
def test_a_copy_that_somebody_wrote_to_is_fetched_again(tmp_path: Path, damage: str) -> None:
    """Even if its size is as it was."""
    fetched: list[int] = []
    path = get(LocalCache(tmp_path, 10 * SIZE), 1, fetched)
    path.chmod(0o600)
    if damage == "removed":
        path.unlink()
    elif damage == "changed in place":
        with path.open("r+b") as file:
            file.write(b"x")
    else:
        os.truncate(path, {"shortened": SIZE - 1, "lengthened": SIZE + 1, "emptied": 0}[damage])
    get(LocalCache(tmp_path, 10 * SIZE), 1, fetched)
    assert fetched == [1, 1]


@pytest.mark.parametrize("wrong", [b"", content(2), content(1)[:-1], content(1) + b"x"])
def test_other_bytes_are_never_kept(tmp_path: Path, wrong: bytes) -> None:
    """Nor half of them."""
    cache = LocalCache(tmp_path, 10 * SIZE)
    with pytest.raises(ArchiveDamaged, match="s3://b/file"):
        cache.get(hashlib.sha256(content(1)).hexdigest(), SIZE, lambda: [wrong], place="s3://b/file")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".lock"]


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    """Its own error comes out."""

    def breaks_off() -> Iterator[bytes]:
        yield content(1)[:10]
        raise StorageError("broke off")

    with pytest.raises(StorageError, match="broke off"):
        LocalCache(tmp_path, 10 * SIZE).get("0" * 64, SIZE, breaks_off)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".lock"]


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    """As soon as there is no room, and not before."""
    for number in (1, 2, 3):
        get(LocalCache(tmp_path, 3 * SIZE), number)
    get(LocalCache(tmp_path, 3 * SIZE), 1)
    assert copies(tmp_path) == 3
    get(LocalCache(tmp_path, 3 * SIZE), 4)
    assert copies(tmp_path) == 3
    fetched: list[int] = []
    for number in (1, 3, 4):
        get(LocalCache(tmp_path, 3 * SIZE), number, fetched)
    assert fetched == []


def test_what_a_process_was_given_stays(tmp_path: Path) -> None:
    """And what is too much at once names the key."""
    cache = LocalCache(tmp_path, 3 * SIZE)
    paths = [get(cache, number) for number in (1, 2, 3)]
    with pytest.raises(ConfigurationError, match=r"cache\.max_bytes.*s3://b/file-4.*4,000"):
        get(cache, 4)
    assert all(path.exists() for path in paths)


def test_what_another_process_was_given_stays(tmp_path: Path) -> None:
    """Until it ends, by itself or by force."""
    for by_force in (False, True):
        other = in_another_process(tmp_path, 3 * SIZE, "(1, 2)")
        get(LocalCache(tmp_path, 3 * SIZE), 3)
        get(LocalCache(tmp_path, 3 * SIZE), 4)  # in place of the third
        here = LocalCache(tmp_path, 3 * SIZE)
        get(here, 5)
        with pytest.raises(StorageError, match="other processes"):
            get(here, 6)
        fetched: list[int] = []
        get(LocalCache(tmp_path, 3 * SIZE), 1, fetched)
        assert fetched == []
        end(other, by_force=by_force)
        get(here, 6)
        assert copies(tmp_path) == 3
        del here


def test_a_download_under_way_takes_its_room(tmp_path: Path) -> None:
    """Two that don't fit together are never begun together."""
    cache = LocalCache(tmp_path, 3 * SIZE)

    def fetch() -> Iterator[bytes]:
        with pytest.raises(StorageError, match=r"cache\.max_bytes"):
            LocalCache(tmp_path, 3 * SIZE).get("1" * 64, 3 * SIZE, list)
        yield content(1)

    cache.get(hashlib.sha256(content(1)).hexdigest(), SIZE, fetch)


def test_what_a_killed_download_left_is_removed(tmp_path: Path) -> None:
    """By whoever needs room next."""
    killed = in_another_process(
        tmp_path,
        3 * SIZE,
        "()",
        then="cache.get('0' * 64, 1000, lambda: [b'x', print('ready', flush=True), input()])",
    )
    assert len(list(tmp_path.glob("*.tmp"))) == 1
    end(killed, by_force=True)
    get(LocalCache(tmp_path, 3 * SIZE), 1)
    assert list(tmp_path.glob("*.tmp")) == []


def test_threads_that_want_the_same_file_all_get_it(tmp_path: Path) -> None:
    """One copy is left."""
    cache, got = LocalCache(tmp_path, 10 * SIZE), []
    threads = [threading.Thread(target=lambda: got.append(get(cache, 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert copies(tmp_path) == 1
    assert list(tmp_path.glob("*.tmp")) == []


def test_processes_that_evict_each_other_never_lose_a_file(tmp_path: Path) -> None:
    """Three of them, in a cache that holds four of nine files."""
    code = (
        "import hashlib, random, sys\nfrom pathlib import Path\nfrom event_archive.storage.cache import LocalCache\n"
        "choice = random.Random(sys.argv[1])\n"
        "for _ in range(150):\n"
        f"    cache, number = LocalCache(Path({str(tmp_path)!r}), {4 * SIZE}), choice.randrange(9)\n"
        f"    content = bytes([number]) * {SIZE}\n"
        f"    path = cache.get(hashlib.sha256(content).hexdigest(), {SIZE}, lambda: [content])\n"
        "    assert path.read_bytes() == content\n"
        "    del cache\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(seed)]) for seed in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert copies(tmp_path) <= 4


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """What has another kind of name isn't ours."""
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")
    for number in range(5):
        get(LocalCache(tmp_path, 2 * SIZE), number)
    assert foreign.read_text() == "mine"
