"""Which spans each data file must hold, as columns of numbers: a second reckoning beside `archive.contents`, with bounded memory.

What doesn't live here: comparing files with it (`rows`).
"""

from __future__ import annotations

import io
import tempfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from event_archive.sources.claims import spans
from event_archive.verify.findings import ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from event_archive.archive.log import Commit

_DIGEST_BYTES = 32
_NO_DIGEST = bytes(_DIGEST_BYTES)
_IN_MEMORY_BYTES = 2**25
_SOURCE, _PARTITION, _VERSION, _TIME, _RUNS = range(5)
_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Source:
    """A source, as far as its name goes."""

    source_id: str
    has_partitions: bool

    def name(self, partition: int) -> str:
        """A partition as a person would say it."""
        return f"{self.source_id} partition {partition}" if self.has_partitions else self.source_id


@dataclass(frozen=True, slots=True)
class HeldSpans:
    """The spans with events that a file holds, in the order of its rows; some 130 bytes each."""

    known_sources: tuple[Source, ...]
    columns: npt.NDArray[np.int64]
    """Shape (spans, 5): place of the source, partition, commit version, ingested at (µs), number of runs."""
    runs: npt.NDArray[np.int64]
    """Shape (runs, 2): first offset and number of events; those of each span one after the other."""
    digests: bytes
    """32 bytes for each span, zeros where the commit recorded none."""

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def events(self) -> int:
        """All together."""
        return int(self.runs[:, 1].sum())

    @property
    def sources(self) -> npt.NDArray[np.int64]:
        """Place of each span's source."""
        return self.columns[:, _SOURCE]

    @property
    def partitions(self) -> npt.NDArray[np.int64]:
        """Each span's partition."""
        return self.columns[:, _PARTITION]

    @property
    def versions(self) -> npt.NDArray[np.int64]:
        """The commit that brought each span."""
        return self.columns[:, _VERSION]

    @property
    def times_us(self) -> npt.NDArray[np.int64]:
        """When that commit was made."""
        return self.columns[:, _TIME]

    @property
    def span_of_run(self) -> npt.NDArray[np.int64]:
        """The span that each run belongs to."""
        return np.repeat(np.arange(len(self)), self.columns[:, _RUNS])

    @property
    def first_runs(self) -> npt.NDArray[np.int64]:
        """Each span's first run."""
        return np.cumsum(self.columns[:, _RUNS]) - self.columns[:, _RUNS]

    @property
    def begins_partition(self) -> npt.NDArray[np.bool_]:
        """Whether a span is of another partition than the one before it."""
        keys = self.columns[:, : _PARTITION + 1]
        return np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])[: len(self)]

    def digest(self, span: int) -> str:
        """A span's row digest in hexadecimal; empty if its commit recorded none."""
        digest = self.digests[span * _DIGEST_BYTES : (span + 1) * _DIGEST_BYTES]
        return "" if digest == _NO_DIGEST else digest.hex()

    def affected(self) -> str:
        """Offsets of the file's events, in words."""
        if not len(self):
            return "no event"
        begins = np.flatnonzero(self.begins_partition)
        ends = np.append(begins[1:], len(self)) - 1
        firsts = self.runs[self.first_runs[begins], 0]
        last_runs = self.first_runs[ends] + self.columns[ends, _RUNS] - 1
        afters = self.runs[last_runs].sum(axis=1)
        return ranges(
            (self.known_sources[self.sources[span]].name(int(self.partitions[span])), int(first), int(after))
            for span, first, after in zip(begins, firsts, afters, strict=True)
        )

    def taken(self, order: npt.NDArray[np.int64]) -> HeldSpans:
        """Some of these spans, in another order."""
        counts = self.columns[order, _RUNS]
        steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        digests = np.frombuffer(self.digests, np.uint8).reshape(-1, _DIGEST_BYTES)[order]
        runs = self.runs[np.repeat(self.first_runs[order], counts) + steps]
        return HeldSpans(self.known_sources, self.columns[order], runs, digests.tobytes())

    def sorted_by_place(self) -> HeldSpans:
        """By source id (as bytes), partition and first offset: how files that take the place of others hold them."""
        ids = [source.source_id.encode() for source in self.known_sources]
        ranks = np.empty(len(ids), np.int64)
        ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
        return self.taken(np.lexsort((self.runs[self.first_runs, 0], self.partitions, ranks[self.sources])))


def spans_of(commit: Commit) -> HeldSpans:
    """The spans with events that a commit brought, in the order of its rows.

    Raises:
        Any of `walk.UNREADABLE`: the claims aren't as they were written.
    """
    found = [span for span in spans(commit.claims) if span.events]
    digests = commit.digests or ("",) * len(found)
    if len(digests) != len(found):
        raise ValueError("another number of row digests than of stretches")
    sources = [Source(span.source_id, span.begins_anywhere) for span in found]
    places = {source: place for place, source in enumerate(dict.fromkeys(sources))}
    rows = [
        (places[source], span.partition, commit.version, commit.ingested_at_us, len(span.runs))
        for source, span in zip(sources, found, strict=True)
    ]
    return HeldSpans(
        tuple(places),
        np.array(rows, np.int64).reshape(-1, _COLUMNS),
        np.concatenate([span.runs for span in found]) if found else np.empty((0, 2), np.int64),
        b"".join(bytes.fromhex(digest) if digest else _NO_DIGEST for digest in digests),
    )


def joined(parts: Sequence[HeldSpans]) -> HeldSpans:
    """The spans of several files, one file's after the other's."""
    places: dict[Source, int] = {}
    columns = []
    for part in parts:
        own = np.array([places.setdefault(s, len(places)) for s in part.known_sources], np.int64)
        moved = part.columns.copy()
        moved[:, _SOURCE] = own[part.sources]
        columns.append(moved)
    return HeldSpans(
        tuple(places),
        np.concatenate(columns) if columns else np.empty((0, _COLUMNS), np.int64),
        np.concatenate([part.runs for part in parts]) if parts else np.empty((0, 2), np.int64),
        b"".join(part.digests for part in parts),
    )


class PendingSpans:
    """Spans of files that a later commit replaces, kept on a disk until it comes."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._places: dict[str, tuple[int, int, int, int, tuple[Source, ...]]] = {}
        self._sources: dict[tuple[Source, ...], tuple[Source, ...]] = {}

    def put(self, path: str, held: HeldSpans) -> None:
        """Keeps the spans of a file."""
        content = zlib.compress(held.columns.tobytes() + held.runs.tobytes() + held.digests, 1)
        sources = self._sources.setdefault(held.known_sources, held.known_sources)
        offset = self._file.seek(0, io.SEEK_END)
        self._places[path] = (offset, len(content), len(held), len(held.runs), sources)
        self._file.write(content)

    def take(self, path: str) -> HeldSpans | None:
        """Gives and forgets the spans of a file; None if they aren't known."""
        if path not in self._places:
            return None
        offset, size, count, run_count, sources = self._places.pop(path)
        self._file.seek(offset)
        content = zlib.decompress(self._file.read(size))
        numbers = np.frombuffer(content, np.int64, count * _COLUMNS + run_count * 2)
        return HeldSpans(
            sources,
            numbers[: count * _COLUMNS].reshape(-1, _COLUMNS),
            numbers[count * _COLUMNS :].reshape(-1, 2),
            content[numbers.nbytes :],
        )

    def close(self) -> None:
        """Forgets all."""
        self._file.close()
