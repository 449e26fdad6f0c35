"""What goes wrong between an archive and its bucket: nothing is lost, doubled or cut short because of it."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import ArchiveDamaged, ConfigurationError, StorageError
from tests.storage.fault_proxy import LOST_ANSWER, LOST_REQUEST, Fault, Request, running_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.storage.conftest import NewStore
    from tests.storage.fault_proxy import FaultProxy
    from tests.storage.servers import Server

pytestmark = pytest.mark.usefixtures("impatient")

LARGE = bytes(range(256)) * (80 << 10)
ALWAYS = 10**6
RIDDEN_OUT = {
    "refused with 500": Fault(500),
    "refused with 503": Fault(503),
    "done, and answered with 500": Fault(500, is_forwarded=True),
    "request lost": LOST_REQUEST,
    "answer lost": LOST_ANSWER,
    "answer late": Fault(delay_seconds=1.5, is_answered=True),
}


@pytest.mark.parametrize("fault", RIDDEN_OUT.values(), ids=RIDDEN_OUT)
def test_an_entry_is_written_once_whatever_happens_to_it(
    new_store: NewStore, proxy: FaultProxy, fault: Fault
) -> None:
    """Three times in a row; a later writer still finds the name taken."""
    proxy.fail("PUT", fault, times=3)
    assert new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")
    assert proxy.faults == 3
    assert not new_store().put_new("entry", b"theirs")
    assert new_store().read("entry") == b"ours"


def test_an_answer_that_got_lost_is_not_another_writer(new_store: NewStore, proxy: FaultProxy) -> None:
    """The repeated request finds the name taken, by itself."""
    proxy.fail("PUT", LOST_ANSWER)
    assert new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")
    assert [request.method for request in proxy.requests] == ["PUT", "PUT", "GET"]


def test_losing_behind_a_lost_request_is_losing(new_store: NewStore, proxy: FaultProxy) -> None:
    """What another writer put there meanwhile is never taken for ours."""
    proxy.fail("PUT", LOST_REQUEST)
    proxy.rules.append(lambda request: _put_by_another(request, new_store))
    assert not new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")
    assert new_store().read("entry") == b"theirs"


def _put_by_another(request: Request, new_store: NewStore) -> None:
    if request.method == "PUT":
        new_store().put_new("entry", b"theirs")


def test_an_entry_that_was_written_although_no_attempt_was_answered_is_ours(
    new_store: NewStore, proxy: FaultProxy
) -> None:
    """What lies there counts, not what was heard."""
    proxy.fail("PUT", LOST_ANSWER, times=ALWAYS)
    assert new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")


@pytest.mark.parametrize("fault", [LOST_REQUEST, Fault(500), Fault(503)])
def test_a_service_that_never_answers_is_an_error_and_no_commit(
    new_store: NewStore, proxy: FaultProxy, fault: Fault
) -> None:
    """The attempts are bounded, and the sentence says where."""
    proxy.fail("PUT", fault, times=ALWAYS)
    with pytest.raises(StorageError, match="entry"):
        new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")
    assert new_store().names("") == []


def test_when_nothing_is_heard_any_more_nobody_claims_to_have_lost(
    new_store: NewStore, proxy: FaultProxy
) -> None:
    """The entry is there, the error is no conflict: whoever took it for one would remove a file that is referred to."""
    proxy.fail("PUT", LOST_ANSWER, times=ALWAYS)
    proxy.fail("GET", LOST_REQUEST, times=ALWAYS)
    with pytest.raises(StorageError, match="entry"):
        new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")
    assert new_store().read("entry") == b"ours"


def test_two_writers_that_meet_try_again(new_store: NewStore, proxy: FaultProxy) -> None:
    """Amazon answers 409 to conditional requests that meet."""
    proxy.fail("PUT", Fault(409), times=3)
    assert new_store(endpoint_url=proxy.endpoint_url).put_new("entry", b"ours")


def test_a_service_that_ignores_conditions_is_refused(new_store: NewStore, proxy: FaultProxy) -> None:
    """It answers 200 to what it should refuse."""
    store = new_store(endpoint_url=proxy.endpoint_url)
    proxy.rules.append(lambda request: Fault(200) if request.method == "PUT" else None)
    with pytest.raises(ConfigurationError, match="If-None-Match"):
        store.put_new("entry", b"ours")


def test_an_entry_is_ours_even_if_conditions_can_not_be_asked_about(
    new_store: NewStore, proxy: FaultProxy
) -> None:
    """The network went away behind it; the next entry asks again."""
    store = new_store(endpoint_url=proxy.endpoint_url)
    proxy.rules.append(lambda _: LOST_REQUEST if 1 < len(proxy.requests) < 8 else None)
    assert store.put_new("entry-1", b"ours")
    assert store.put_new("entry-2", b"ours")
    assert store.put_new("entry-3", b"ours")
    assert [request.method for request in proxy.requests] == ["PUT"] * 10


def test_that_a_service_honours_conditions_is_asked_once(new_store: NewStore, proxy: FaultProxy) -> None:
    """Of all stores of an archive together."""
    store = new_store(endpoint_url=proxy.endpoint_url)
    for number in range(5):
        assert store.child("stream").put_new(f"entry-{number}", b"ours")
    assert len(proxy.requests) == 6


@pytest.mark.parametrize("fault", RIDDEN_OUT.values(), ids=RIDDEN_OUT)
@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("size_bytes", [1000, len(LARGE)])
def test_a_file_is_uploaded_whole_whatever_happens_on_the_way(
    new_store: NewStore, proxy: FaultProxy, fault: Fault, method: str, size_bytes: int
) -> None:
    """Parts, and the requests that begin and end them, are repeated."""
    proxy.fail(method, fault, times=2)
    content = LARGE[:size_bytes]
    file = new_store(endpoint_url=proxy.endpoint_url).new_file("file")
    file.write(content)
    file.finish()
    assert new_store().read("file") == content


REPEATED = {
    "the repeated request finds the name taken": Fault(412, is_forwarded=True),
    "the repeated request finds no upload": Fault(404, is_forwarded=True),
}


@pytest.mark.parametrize("fault", (RIDDEN_OUT | REPEATED).values(), ids=RIDDEN_OUT | REPEATED)
def test_completing_an_upload_survives_anything(new_store: NewStore, proxy: FaultProxy, fault: Fault) -> None:
    """Its answer is the one that must not be believed lost."""
    proxy.rules.append(_once(fault, lambda request: request.method == "POST" and "uploadId=" in request.path))
    file = new_store(endpoint_url=proxy.endpoint_url).new_file("file")
    file.write(LARGE)
    file.finish()
    assert proxy.faults == 1
    assert new_store().read("file") == LARGE


def test_an_upload_that_is_refused_at_the_end_is_an_error(new_store: NewStore, proxy: FaultProxy) -> None:
    """Nobody has done it, and nothing is there."""
    proxy.rules.append(
        _once(Fault(412), lambda request: request.method == "POST" and "uploadId=" in request.path)
    )
    file = new_store(endpoint_url=proxy.endpoint_url).new_file("file")
    with pytest.raises(StorageError, match="PreconditionFailed"):
        _write_and_finish(file)
    file.discard()
    assert new_store().names("") == []


def _once(fault: Fault, matches: Callable[[Request], bool]) -> Callable[[Request], Fault | None]:
    left = [fault]

    def rule(request: Request) -> Fault | None:
        return left.pop() if left and matches(request) else None

    return rule


def test_a_file_never_replaces_another(new_store: NewStore, proxy: FaultProxy) -> None:
    """Small or large; and giving it up leaves the other one alone."""
    for content in (b"ours", LARGE):
        name = f"file-{len(content)}"
        new_store().put_new(name, b"theirs")
        file = new_store().new_file(name)
        file.write(content)
        with pytest.raises(StorageError, match=name):
            file.finish()
        file.discard()
        assert new_store().read(name) == b"theirs"


def test_a_part_that_is_refused_for_good_leaves_no_object(
    new_store: NewStore, proxy: FaultProxy, server: Server
) -> None:
    """Nor parts that somebody pays for."""
    proxy.fail("PUT", Fault(500), times=ALWAYS, path="partNumber=2")
    store = new_store(endpoint_url=proxy.endpoint_url)
    file = store.new_file("file")
    with pytest.raises(StorageError, match="file"):
        _write_and_finish(file)
    file.discard()
    assert new_store().names("") == []
    bucket = store.url.split("/")[2]
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket=bucket)


def _write_and_finish(file: Any) -> None:
    file.write(LARGE)
    file.finish()


def test_an_upload_takes_no_more_memory_than_the_parts_under_way(new_store: NewStore) -> None:
    """Four, and the one that is filled, which is copied once; however large the file is."""
    file, piece = new_store().new_file("file"), bytes(1 << 20)
    file.write(piece)
    tracemalloc.start()
    try:
        for _ in range(150):
            file.write(piece)
        file.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 60 << 20
    assert new_store().size("file") == 151 << 20


@pytest.mark.parametrize("body_bytes", [0, 1, 5_000_000, len(LARGE) - 1, len(LARGE)])
def test_a_read_that_is_cut_goes_on_where_it_was_cut(
    new_store: NewStore, proxy: FaultProxy, body_bytes: int
) -> None:
    """Never short, never twice."""
    file = new_store().new_file("file")
    file.write(LARGE)
    file.finish()
    proxy.fail("GET", Fault(body_bytes=body_bytes), times=3)
    assert new_store(endpoint_url=proxy.endpoint_url).read("file") == LARGE
    digest = hashlib.sha256(LARGE).hexdigest()
    path = new_store(endpoint_url=proxy.endpoint_url).local_path("file", size_bytes=len(LARGE), sha256=digest)
    assert path.read_bytes() == LARGE


def test_a_read_that_gets_no_further_is_an_error(new_store: NewStore, proxy: FaultProxy) -> None:
    """And says how far it came."""
    new_store().put_new("file", bytes(600_000))
    proxy.fail("GET", Fault(body_bytes=400_000))
    proxy.fail("GET", Fault(body_bytes=0), times=ALWAYS)
    with pytest.raises(StorageError, match="broke off at 262,144 of 600,000 bytes"):
        new_store(endpoint_url=proxy.endpoint_url).read("file")


def test_a_read_never_joins_two_objects(new_store: NewStore, proxy: FaultProxy) -> None:
    """The file was replaced between one piece and the next."""
    new_store().put_new("file", bytes(600_000))
    proxy.fail("GET", Fault(body_bytes=400_000))
    chunks = new_store(endpoint_url=proxy.endpoint_url).chunks("file")
    proxy.rules.append(lambda _: _replace(new_store))
    with pytest.raises(StorageError, match="replaced"):
        b"".join(chunks)


def _replace(new_store: NewStore) -> None:
    changed = b"abcdefghij"
    new_store().restore("file", [changed], sha256=hashlib.sha256(changed).hexdigest())


@pytest.mark.parametrize(
    "fault", [LOST_REQUEST, Fault(500), Fault(503), Fault(delay_seconds=1.5, is_answered=True)]
)
def test_listings_and_sizes_are_asked_for_again(new_store: NewStore, proxy: FaultProxy, fault: Fault) -> None:
    """A list that came in part is no list."""
    new_store().put_new("day/file", b"0123456789")
    store = new_store(endpoint_url=proxy.endpoint_url)
    for method, ask, expected in (
        ("GET", lambda: store.names("day"), ["file"]),
        ("GET", store.folders, ["day"]),
        ("GET", lambda: [file.name for file in store.files()], ["day/file"]),
        ("HEAD", lambda: store.size("day/file"), 10),
    ):
        proxy.fail(method, fault)
        assert ask() == expected
    proxy.fail("DELETE", fault)
    store.delete("day/file")
    assert new_store().names("day") == []
    assert proxy.faults == 5


def test_a_restore_that_meets_faults_is_whole_or_not_at_all(new_store: NewStore, proxy: FaultProxy) -> None:
    """What was there stays until the last byte is right."""
    store = new_store(endpoint_url=proxy.endpoint_url)
    new_store().put_new("file", b"what was there")
    proxy.fail("PUT", Fault(500), times=ALWAYS, path="partNumber=3")
    with pytest.raises(StorageError):
        store.restore("file", [LARGE], sha256=hashlib.sha256(LARGE).hexdigest())
    assert new_store().read("file") == b"what was there"
    proxy.rules.clear()
    proxy.fail("PUT", LOST_ANSWER, times=2)
    proxy.fail("POST", LOST_ANSWER, times=2)
    store.restore("file", [LARGE], sha256=hashlib.sha256(LARGE).hexdigest())
    assert new_store().read("file") == LARGE


@pytest.mark.parametrize("round_", range(5))
def test_of_many_writers_on_a_bad_network_exactly_one_wins(
    new_store: NewStore, server: Server, round_: int
) -> None:
    """Each behind a network of its own, where every third request or answer is lost."""
    won: list[int] = []
    start = threading.Barrier(4)

    def put(writer: int) -> None:
        with running_proxy(server.endpoint_url) as proxy:
            fault = [LOST_REQUEST, LOST_ANSWER, Fault(500, is_forwarded=True), Fault(503)][writer]
            proxy.rules.append(lambda _: fault if len(proxy.requests) % 3 == 1 else None)
            store = new_store(endpoint_url=proxy.endpoint_url)
            start.wait()
            if store.put_new("entry", b"by %d" % writer):
                won.append(writer)

    threads = [threading.Thread(target=put, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert new_store().read("entry") == b"by %d" % won[0]


def test_a_copy_of_other_bytes_is_never_handed_out(new_store: NewStore) -> None:
    """Damage in the bucket is named, with the object."""
    store = new_store()
    store.put_new("day/file.parquet", b"damaged")
    for size_bytes in (7, 8):
        with pytest.raises(ArchiveDamaged, match=r"day/file\.parquet"):
            store.local_path("day/file.parquet", size_bytes=size_bytes, sha256="0" * 64)
