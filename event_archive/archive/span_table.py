"""The spans of some neighbouring commits as columns, and which of them the rows of a data file belong to.

A span is the stretch of one source partition that one commit brought; see `sources.claims`. A day may have a million of them, so
there is no object for each. What doesn't live here: which file holds which spans, as the log tells it (`contents`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive import layout
from event_archive.archive.contents import held_spans
from event_archive.archive.history import iter_entries
from event_archive.archive.log import REMEDY, Commit, DataFile, entry_fault, parse_entry
from event_archive.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from event_archive.storage.store import Store

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
PLACE_COLUMNS = ("source_id", "source_partition", "source_offset", "commit_version")
"""Columns that tell which span a row belongs to, and where in it."""


def commit_range(file: DataFile) -> tuple[int, int]:
    """The first and the last commit of which a data file holds rows, as its statistics say."""
    return file.stats["minValues"]["commit_version"], file.stats["maxValues"]["commit_version"]


def commits_between(table: Store, first: int, last: int) -> Iterator[Commit]:
    """The commits of these versions, each proved by its own hash and by being the one on which the next was built.

    Raises:
        ArchiveDamaged: one is missing or damaged.
    """
    before: str | None = None
    for version, entry in iter_entries(table, first=first):
        if version > last:
            return
        place = table.place(layout.entry_name(version))
        if fault := entry_fault(entry):
            raise ArchiveDamaged(f"{place} {fault}. {REMEDY}")
        commit, previous = parse_entry(version, entry)
        if before not in (None, previous):
            raise ArchiveDamaged(
                f"{table.url}: log entry {version} was built on another entry {version - 1} than the one in the log. {REMEDY}"
            )
        before = commit.entry_sha256
        yield commit


class SpanTable:
    """Spans with events, by commit and in a commit in the order of its rows; a span is named by its place among them."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        """Takes the spans of commits, which come in order.

        Raises:
            ArchiveDamaged: a commit has positions that can't be read.
        """
        self.source_ids: list[str] = []
        self._codes: dict[str, int] = {}
        parts: list[npt.NDArray[np.int64]] = []
        digests: list[npt.NDArray[np.bytes_]] = []
        for commit in commits:
            held = held_spans(commit)
            if not held:
                continue
            numbers = [
                (
                    commit.version,
                    self._code(item.span.source_id),
                    item.span.partition,
                    item.span.first_offset,
                    item.span.events,
                    commit.ingested_at_us,
                )
                for item in held
            ]
            parts.append(np.array(numbers, np.int64))
            digests.append(np.array([item.digest.encode() for item in held], "S64"))
        columns = np.concatenate(parts) if parts else np.empty((0, 6), np.int64)
        self.versions, self.sources, self.partitions, self.first_offsets, self.events, self.ingested_at_us = (
            np.ascontiguousarray(columns[:, i]) for i in range(6)
        )
        self.digests = np.concatenate(digests) if digests else np.empty(0, "S64")
        """Row digests in hexadecimal; empty where the commit recorded none (format 1)."""
        self._lowest_version = int(self.versions[0]) if len(self) else 0
        self._partition_count = int(self.partitions.max()) + 1 if len(self) else 1
        keys = self._keys(self.versions, self.sources, self.partitions)
        self._by_key = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._by_key]
        if (np.diff(self._sorted_keys) == 0).any():
            raise ArchiveDamaged("a commit claims two stretches of one partition.")

    def __len__(self) -> int:
        return len(self.versions)

    def _code(self, source_id: str) -> int:
        code = self._codes.setdefault(source_id, len(self._codes))
        if code == len(self.source_ids):
            self.source_ids.append(source_id)
        return code

    def _keys(
        self,
        versions: npt.NDArray[np.int64],
        sources: npt.NDArray[np.int64],
        partitions: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        return (
            (versions - self._lowest_version) * len(self.source_ids) + sources
        ) * self._partition_count + partitions

    def sorted_ranks(self) -> npt.NDArray[np.int64]:
        """Rank of each span in the order in which files that take the place of others hold them; see `contents`."""
        by_name = sorted(range(len(self.source_ids)), key=lambda code: self.source_ids[code].encode())
        place = np.empty(len(by_name), np.int64)
        place[by_name] = np.arange(len(by_name))
        order = np.lexsort((self.first_offsets, self.partitions, place[self.sources]))
        ranks = np.empty(len(self), np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def _sources_of(self, rows: pa.Table) -> tuple[npt.NDArray[np.int32], list[str], npt.NDArray[np.int64]]:
        """Index of each row's source, and name and code of each index; the code is -1 if no span is of that source."""
        source = rows["source_id"].combine_chunks()
        source = source.chunk(0) if isinstance(source, pa.ChunkedArray) else source
        names = source.dictionary.to_pylist()
        codes = np.array([self._codes.get(name, -1) for name in names], np.int64)
        return source.indices.to_numpy(), names, codes

    def source_codes(self, rows: pa.Table) -> npt.NDArray[np.int64]:
        """The place of each row's source among `source_ids`, -1 if it isn't there."""
        indices, _, codes = self._sources_of(rows)
        found: npt.NDArray[np.int64] = codes[indices]
        return found

    def stretches(self, rows: pa.Table, place: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Neighbouring rows of one span each: how many there are, and which span's they are.

        Args:
            rows: with `PLACE_COLUMNS`.
            place: where they come from, as a person would write it.

        Raises:
            ArchiveDamaged: a row belongs to no span.
        """
        if not rows.num_rows:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        indices, names, codes = self._sources_of(rows)
        partitions, versions = (rows[name].to_numpy() for name in ("source_partition", "commit_version"))
        changes = (np.diff(indices) != 0) | (np.diff(partitions) != 0) | (np.diff(versions) != 0)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        lengths = np.diff(starts, append=rows.num_rows)
        version, code, partition = (
            versions[starts],
            codes[indices[starts]],
            partitions[starts].astype(np.int64),
        )
        keys = self._keys(version, code, partition)
        found = np.searchsorted(self._sorted_keys, keys)
        spans = self._by_key[np.minimum(found, max(len(self) - 1, 0))] if len(self) else np.empty(0, np.int64)
        is_wrong = (
            np.ones(len(starts), np.bool_)
            if not len(self)
            else (self.versions[spans] != version)
            | (self.sources[spans] != code)
            | (self.partitions[spans] != partition)
        )
        if is_wrong.any():
            first = int(np.flatnonzero(is_wrong)[0])
            raise ArchiveDamaged(
                f"{place}: holds rows of {names[int(indices[starts[first]])]} partition {int(partition[first])} of commit "
                f"{int(version[first])}, which that commit has not brought. {REMEDY}"
            )
        return lengths, spans
