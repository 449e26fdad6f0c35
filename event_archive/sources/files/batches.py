"""A landing folder as row groups of the envelope, and the claims that go with them.

One thread reads, decompresses and hashes; the caller splits, encodes and writes meanwhile. Memory is bounded by a few
blocks and one row group.

What doesn't live here: commits. The caller takes row groups until it wants to commit, and the claims then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive.archive.columns import column, string_column
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.errors import SourceProblem
from event_archive.sources.files.lines import Lines, split
from event_archive.sources.files.positions import (
    OPEN_LINE,
    UNREAD,
    Claim,
    FileState,
    Positions,
    encode_source_id,
)
from event_archive.sources.files.reading import (
    NOT_YET,
    Piece,
    ReadSettings,
    is_still,
    is_unchanged,
    read_file,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from event_archive.sources.files.landing import LandingFile

_PIECES_A_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Work:
    """A file that has to be opened."""

    file: LandingFile
    state: FileState


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that could not be archived as it should be, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Pieces of files, in order, some megabytes together; their lines; and the files that failed meanwhile."""

    pieces: list[Piece]
    lines: Lines
    """With a part for each piece."""
    problems: list[FileProblem]
    size_bytes: int


def plan(
    files: Iterable[LandingFile], positions: Positions, settings: ReadSettings
) -> tuple[list[Work], list[FileProblem]]:
    """Which files have to be opened, and which are known to be damaged and have not changed since."""
    work: list[Work] = []
    problems: list[FileProblem] = []
    for file in files:
        state = positions.by_path.get(file.path)
        if state is None:
            if file.size_bytes:
                work.append(Work(file, replace(UNREAD, source_id=encode_source_id(file.path))))
        elif not is_unchanged(file, state):
            work.append(Work(file, state))
        elif state.is_damaged:
            problems.append(FileProblem(file.path, damage_reason(state)))
        elif state.left == OPEN_LINE and is_still(file.mtime_ns, settings.settle_seconds):
            work.append(Work(file, state))
    return work, problems


def damage_reason(state: FileState) -> str:
    """Why a damaged file is a problem, as a half sentence."""
    _, _, reason = state.left.partition(": ")
    return (
        f"{reason}; the {state.records} whole lines before that are archived. Put a whole copy in its place, or let "
        "`event-archive sources accept FILE` accept it as it is"
    )


def read_blocks(work: Iterable[Work], settings: ReadSettings) -> Generator[Block, None, None]:
    """Reads the files one after the other into blocks."""
    pieces: list[Piece] = []
    problems: list[FileProblem] = []
    size_bytes = 0
    for item in work:
        try:
            for piece in read_file(item.file, item.state, settings):
                pieces.append(piece)
                size_bytes += len(piece.data)
                if size_bytes >= settings.block_bytes or len(pieces) >= _PIECES_A_BLOCK:
                    yield _block(pieces, problems)
                    pieces, problems, size_bytes = [], [], 0
        except SourceProblem as problem:
            problems.append(FileProblem(item.file.path, str(problem)))
    if pieces or problems:
        yield _block(pieces, problems)


def _block(pieces: list[Piece], problems: list[FileProblem]) -> Block:
    ends = np.cumsum([len(piece.data) for piece in pieces], dtype=np.int64)
    data = pieces[0].data if len(pieces) == 1 else b"".join([piece.data for piece in pieces])
    return Block(pieces, split(data, ends), problems, len(data))


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that has been read to its end."""

    path: str
    state: FileState
    is_new: bool
    """Whether nothing of it had been committed before."""


class BatchBuilder:
    """Collects blocks for the next commit: rows until they make a row group, claims until they are committed."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._claims: dict[str, Claim] = {}
        self._values: list[pa.BinaryArray] = []
        self._runs: list[tuple[str, int, int]] = []  # source id, first offset, rows
        self._known = frozenset(positions.by_path)
        self.pending_rows = 0
        self.pending_bytes = 0
        self.pending_blank_lines = 0

    @property
    def claimed_files(self) -> int:
        """How many files the next commit speaks of."""
        return len(self._claims)

    def add(self, block: Block) -> list[Finished]:
        """Takes in a block; returns the files of which it holds the end."""
        lines = block.lines
        if len(lines.values):
            self._values.append(lines.values)
            self.pending_rows += len(lines.values)
            self.pending_bytes += lines.values.buffers()[2].size
        self.pending_blank_lines += len(lines.blank_before)
        starts = np.cumsum(lines.counts) - lines.counts
        finished = []
        for part, (piece, count, start) in enumerate(
            zip(block.pieces, lines.counts.tolist(), starts.tolist(), strict=True)
        ):
            archived = self._positions.by_path.get(piece.path)
            claim = self._claims.get(piece.path)
            before = claim.state if claim else archived
            first = before.records if before else 0
            state = replace(piece.state, records=first + count)
            if count:
                self._runs.append((state.source_id, first, count))
            if piece.is_last:
                finished.append(Finished(piece.path, state, is_new=piece.path not in self._known))
            if claim is None and not _is_worth_claiming(before, state):
                continue
            blank = lines.blank_before[lines.blank_part == part] - start + first
            if claim:
                blank = np.concatenate([claim.blank_before, blank])
            self._claims[piece.path] = Claim(claim.first_record if claim else first, state, blank)
        return finished

    def take_rows(self) -> pa.Table:
        """The rows collected so far, with `SOURCE_SCHEMA`; the builder is empty of rows after it."""
        source_ids = list(dict.fromkeys(source_id for source_id, _, _ in self._runs))
        index = {source_id: i for i, source_id in enumerate(source_ids)}
        counts = np.array([rows for _, _, rows in self._runs], np.int64)
        firsts = np.array([first for _, first, _ in self._runs], np.int64)
        rows = int(counts.sum())
        offsets = np.arange(rows) + np.repeat(firsts - (np.cumsum(counts) - counts), counts)
        indices = np.repeat(np.array([index[source_id] for source_id, _, _ in self._runs], np.int32), counts)
        given = {
            "source_id": pa.DictionaryArray.from_arrays(
                column(pa.int32(), indices), string_column(source_ids)
            ),
            "source_partition": column(pa.int32(), np.zeros(rows, np.int32)),
            "source_offset": column(pa.int64(), offsets),
            "value": pa.chunked_array(self._values, pa.binary()),
        }
        columns = [given.get(field.name, pa.nulls(rows, field.type)) for field in SOURCE_SCHEMA]
        self._values, self._runs = [], []
        self.pending_rows = self.pending_bytes = 0
        return pa.table(columns, schema=SOURCE_SCHEMA)

    def take_claims(self) -> list[Claim]:
        """The claims collected since the last call, which are from now on the positions; in the order of the rows."""
        claims = list(self._claims.values())
        self._claims = {}
        self.pending_blank_lines = 0
        for claim in claims:
            self._positions.put(claim.state)
        return claims


def _is_worth_claiming(before: FileState | None, state: FileState) -> bool:
    """Whether a commit should say it: that a file has a line that isn't finished yet needn't be recorded each time."""
    if before is None:
        return state.position_bytes > 0 or state.is_damaged
    if (state.position_bytes, state.terminated) != (before.position_bytes, before.terminated):
        return True
    if state.left == OPEN_LINE:
        return False
    return replace(state, mtime_ns=before.mtime_ns) != before or state.mtime_ns not in (
        before.mtime_ns,
        NOT_YET,
    )
