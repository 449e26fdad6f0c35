"""What every place promises, a folder as well as a bucket."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from event_archive.errors import ArchiveDamaged, FileMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from event_archive.storage.store import Store

LARGE = bytes(range(256)) * (80 << 10)  # 20 MB: three parts on S3
SMALL = b"a few bytes"


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write(store: Store, name: str, content: bytes) -> None:
    """Writes a file in uneven pieces."""
    file = store.new_file(name)
    for begin in range(0, len(content), 3_000_001):
        file.write(content[begin : begin + 3_000_001])
    file.finish()


def everything(store: Store) -> dict[str, bytes]:
    """What the place holds."""
    return {file.name: store.read(file.name) for file in store.files()}


def test_a_small_file_reads_back(store: Store) -> None:
    """Names, sizes and bytes are those that were given."""
    assert store.put_new("_delta_log/0.json", b"an entry")
    assert store.read("_delta_log/0.json") == b"an entry"
    assert store.size("_delta_log/0.json") == len(b"an entry")
    assert store.names("_delta_log") == ["0.json"]


def test_a_name_is_given_once(store: Store) -> None:
    """The second writer of a name is told, and changes nothing."""
    assert store.put_new("entry", b"the first")
    assert not store.put_new("entry", b"the second")
    assert not store.put_new("entry", b"")
    assert everything(store) == {"entry": b"the first"}


def test_an_empty_file_takes_its_name_too(store: Store) -> None:
    """Nothing is still something."""
    assert store.put_new("entry", b"")
    assert not store.put_new("entry", b"more")
    assert store.read("entry") == b""
    assert list(store.chunks("entry")) in ([], [b""])


@pytest.mark.parametrize("round_", range(8))
def test_of_many_writers_of_a_name_exactly_one_wins(store: Store, round_: int) -> None:
    """What lies there is what the winner wrote."""
    won: list[int] = []
    start = threading.Barrier(8)

    def put(writer: int) -> None:
        start.wait()
        if store.put_new("entry", b"by %d" % writer):
            won.append(writer)

    threads = [threading.Thread(target=put, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("entry") == b"by %d" % won[0]


@pytest.mark.parametrize("content", [b"", SMALL, LARGE[: 8 << 20], LARGE[: (8 << 20) + 1], LARGE])
def test_a_new_file_reads_back(store: Store, content: bytes) -> None:
    """Whatever its size, and however it was cut into pieces."""
    file = store.new_file("day/file.parquet")
    for begin in range(0, len(content), 3_000_001):
        file.write(content[begin : begin + 3_000_001])
    file.finish()
    assert (file.size_bytes, file.sha256) == (len(content), sha256(content))
    assert b"".join(store.chunks("day/file.parquet")) == content
    assert store.size("day/file.parquet") == len(content)


def test_a_file_takes_any_buffer(store: Store) -> None:
    """As pyarrow gives them."""
    file = store.new_file("file")
    assert [file.write(memoryview(SMALL)), file.write(bytearray(SMALL))] == [len(SMALL)] * 2  # type: ignore[arg-type]
    file.finish()
    assert store.read("file") == SMALL * 2


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_discarded_file_leaves_nothing(store: Store, content: bytes, *, is_finished: bool) -> None:
    """Before it was finished and after, and twice does no harm."""
    file = store.new_file("day/file.parquet")
    file.write(content)
    if is_finished:
        file.finish()
    file.discard()
    file.discard()
    assert file.write(b"more") == len(b"more")
    assert everything(store) == {}


def test_chunks_are_bounded(store: Store) -> None:
    """A large file never comes in one piece."""
    write(store, "file", LARGE)
    sizes = [len(chunk) for chunk in store.chunks("file")]
    assert sum(sizes) == len(LARGE)
    assert max(sizes) <= 4 << 20


@pytest.mark.parametrize("content", [b"", SMALL, LARGE])
def test_a_hashed_file_lies_on_a_local_disk_for_the_block(store: Store, content: bytes) -> None:
    """Its hash is that of the place's bytes, and progress adds up."""
    write(store, "file", content)
    seen: list[int] = []
    with store.hashed("file", on_bytes=seen.append) as file:
        assert file.path.read_bytes() == content
        assert (file.size_bytes, file.sha256) == (len(content), sha256(content))
    assert sum(seen) == len(content)


def test_hashing_reads_the_place_each_time(store: Store) -> None:
    """No copy answers for it."""
    write(store, "file", SMALL)
    store.local_path("file", size_bytes=len(SMALL), sha256=sha256(SMALL))
    changed = b"A few bytes"
    store.restore("file", [changed], sha256=sha256(changed))
    with store.hashed("file") as file:
        assert file.sha256 == sha256(changed)


def test_a_local_path_holds_the_file(store: Store) -> None:
    """Asked for twice, it is the same."""
    write(store, "file", LARGE)
    first = store.local_path("file", size_bytes=len(LARGE), sha256=sha256(LARGE))
    assert first.is_absolute()
    assert first.read_bytes() == LARGE
    assert store.local_path("file", size_bytes=len(LARGE), sha256=sha256(LARGE)) == first


@pytest.mark.parametrize("content", [b"", SMALL, LARGE])
@pytest.mark.parametrize("is_there", [False, True])
def test_restore_puts_bytes_whatever_was_there(store: Store, content: bytes, *, is_there: bool) -> None:
    """A missing file and a damaged one alike."""
    if is_there:
        write(store, "day/file.parquet", b"damaged")
    pieces = [content[begin : begin + 5_000_000] for begin in range(0, len(content), 5_000_000)]
    store.restore("day/file.parquet", pieces, sha256=sha256(content))
    assert everything(store) == {"day/file.parquet": content}


@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("is_there", [False, True])
def test_restore_with_another_hash_changes_nothing(store: Store, content: bytes, *, is_there: bool) -> None:
    """Neither a file that is there nor one that isn't."""
    if is_there:
        write(store, "file", b"what was there")
    before = everything(store)
    with pytest.raises(ArchiveDamaged, match="file"):
        store.restore("file", [content, b"one byte more"], sha256=sha256(content))
    assert everything(store) == before


def test_restore_from_a_source_that_breaks_off_changes_nothing(store: Store) -> None:
    """The source's own error comes out."""

    def breaks_off() -> Iterator[bytes]:
        yield LARGE
        raise RuntimeError("the source broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        store.restore("file", breaks_off(), sha256=sha256(LARGE))
    assert everything(store) == {}


def test_a_missing_file_is_called_missing(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By every method that reads, and the name is part of it."""
    store.put_new("other", b"so that the place exists")

    def hash_it() -> None:
        with store.hashed("day/file"):
            pass

    reads: list[Callable[[], object]] = [
        lambda: store.read("day/file"),
        lambda: store.size("day/file"),
        lambda: list(store.chunks("day/file")),
        hash_it,
    ]
    for read in reads:
        with pytest.raises(FileMissing, match="day/file"):
            read()


def test_a_deleted_file_is_gone(store: Store) -> None:
    """And one that isn't there is as good as deleted."""
    store.put_new("day/entry", b"an entry")
    store.delete("day/entry")
    store.delete("day/entry")
    store.delete("never/was")
    assert everything(store) == {}


def test_a_place_that_does_not_exist_holds_nothing(store: Store) -> None:
    """It need not be made."""
    assert store.folders() == []
    assert store.names("_delta_log") == []
    assert store.names("") == []
    assert list(store.files()) == []
    assert list(store.child("a_stream").files("day")) == []


def test_listings_tell_folders_from_files(store: Store) -> None:
    """Names directly in a folder, folders directly in the place, all files in order."""
    for name in (
        "b/_delta_log/1.json",
        "b/_delta_log/0.json",
        "b/day=2/x",
        "b/day=1/y",
        "a/z",
        "b_2/q",
        "top",
    ):
        store.put_new(name, name.encode())
    assert sorted(store.folders()) == ["a", "b", "b_2"]
    assert store.names("") == ["top"]
    assert sorted(store.names("b/_delta_log")) == ["0.json", "1.json"]
    assert store.names("b") == []
    everywhere = [
        "a/z",
        "b/_delta_log/0.json",
        "b/_delta_log/1.json",
        "b/day=1/y",
        "b/day=2/x",
        "b_2/q",
        "top",
    ]
    assert [file.name for file in store.files()] == everywhere
    assert [file.name for file in store.files("b")] == everywhere[1:5]
    assert [file.size_bytes for file in store.files("b/day=1")] == [len("b/day=1/y")]


def test_more_names_than_one_page(store: Store) -> None:
    """S3 lists a thousand at a time."""
    names = [f"{number:04d}.json" for number in range(1005)]
    threads = [
        threading.Thread(
            target=lambda part: [store.put_new(f"log/{name}", b"{}") for name in part], args=(names[i::8],)
        )
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.names("log")) == names
    assert [file.name for file in store.files()] == [f"log/{name}" for name in names]


def test_a_child_is_the_place_below(store: Store) -> None:
    """What one writes the other reads."""
    child = store.child("a_stream")
    child.put_new("day/entry", b"an entry")
    assert child.name == "a_stream"
    assert child.place("day/entry") == f"{store.url}/a_stream/day/entry"
    assert store.read("a_stream/day/entry") == b"an entry"
    assert [file.name for file in child.files()] == ["day/entry"]
    assert [file.name for file in store.files()] == ["a_stream/day/entry"]


@pytest.mark.parametrize("name", ["ingest_date=2026-01-31/a b.parquet", "ü/ß+%20.json", "a&b/<c>.json"])
def test_any_name_is_that_name(store: Store, name: str) -> None:
    """Whatever an URL would do to it."""
    assert store.put_new(name, b"an entry")
    assert [file.name for file in store.files()] == [name]
    assert store.read(name) == b"an entry"
