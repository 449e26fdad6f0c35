"""Proof that an archive is whole: every byte of it is read and held against the log, and the log against itself.

What doesn't live here: mending what is found.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from event_archive import layout
from event_archive.archive.data_file import column, open_data_file, string_column
from event_archive.archive.history import log_versions
from event_archive.archive.log import Commit, DataFile, entry_fault, parse_entry
from event_archive.durable import sha256_of
from event_archive.errors import ArchiveDamaged, EventArchiveError
from event_archive.sources.claims import Span, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from event_archive.config import Config
    from event_archive.storage.store import Store

_CHECKED_COLUMNS = [
    "source_id",
    "source_partition",
    "source_offset",
    "ingested_at",
    "ingest_date",
    "commit_version",
]
_THREADS = 4
_RANGES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it must be."""

    path: str
    """The damaged file."""
    reason: str
    affected: str
    """Which events, as far as the log tells."""

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.path} {self.reason}" + (f"; affected: {self.affected}." if self.affected else ".")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify_stream` read and found."""

    stream: str
    version: int
    chain_hash: str | None
    commits: int
    files: int
    events: int
    bytes_read: int
    damages: tuple[Damage, ...]
    unreferenced: tuple[str, ...]
    """Files that no commit speaks of, as an interrupted write leaves them: harmless."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


@dataclass(slots=True)
class _Findings:
    table: Store
    damages: list[Damage] = field(default_factory=list)
    bytes_read: int = 0

    def add(self, path: Path | str, reason: str, affected: str = "") -> None:
        self.damages.append(Damage(str(path), reason, affected))

    def entry(self, version: int, reason: str, affected: str = "") -> None:
        self.add(self.table.place(layout.entry_name(version)), reason, affected)


def verify_stream(
    config: Config, stream: str, *, on_progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Reads every byte of the table of `stream` and checks it against the log.

    Checked: each log entry against its own hash and its successor's, each data file's size and SHA-256, its rows
    against the positions that its commit claims, those positions against the ones of the commits before.

    Args:
        config: the configuration.
        stream: name of a configured stream.
        on_progress: called with bytes read and bytes to read.

    Raises:
        UsageError: there is no such stream.
    """
    config.stream(stream)
    table = config.table(stream)
    findings = _Findings(table)
    commits = list(_whole_entries(findings))
    has_gaps = bool(findings.damages)
    _check_positions(commits, findings, gaps=has_gaps)
    files = [(commit, file) for commit in commits for file in commit.added]
    total = sum(file.size_bytes for _, file in files)
    with ThreadPoolExecutor(_THREADS) as pool:
        for (_, file), damages in zip(files, pool.map(lambda f: _check_file(table, *f), files), strict=True):
            findings.damages += damages
            findings.bytes_read += file.size_bytes
            if on_progress is not None:
                on_progress(findings.bytes_read, total)
    unreferenced = [] if has_gaps else list(_unreferenced(table, commits))
    _check_end(unreferenced, commits, findings)
    return VerifyReport(
        stream=stream,
        version=commits[-1].version if commits else -1,
        chain_hash=commits[-1].entry_sha256 if commits else None,
        commits=len(commits),
        files=len(files),
        events=sum(commit.events for commit in commits),
        bytes_read=findings.bytes_read,
        damages=tuple(findings.damages),
        unreferenced=tuple(unreferenced),
    )


def _whole_entries(findings: _Findings) -> Iterator[Commit]:
    """The entries that prove themselves; the others become findings."""
    versions = log_versions(findings.table)
    for below, above in pairwise([-1, *versions]):
        if above > below + 1:
            findings.entry(
                below + 1, "is missing" + (f", and all up to {above - 1}" if above > below + 2 else "")
            )
    before: tuple[int, str] | None = None
    for version in versions:
        try:
            entry = findings.table.read(layout.entry_name(version))
        except EventArchiveError as error:
            findings.entry(version, f"can't be read ({error})", "the events of that commit")
            continue
        findings.bytes_read += len(entry)
        fault = entry_fault(entry)
        if fault is None:
            try:
                commit, previous = parse_entry(version, entry)
            except ArchiveDamaged as error:
                fault = str(error)
        if fault is not None:
            findings.entry(version, fault, "the events of that commit")
            continue
        if version == 0 and previous is not None:
            findings.entry(0, "says that an entry came before it, which was cut off")
        if before and before[0] == version - 1 and before[1] != previous:
            findings.entry(
                version - 1, f"is not the entry on which commit {version} was built: it was replaced"
            )
        before = (version, commit.entry_sha256)
        yield commit


def _check_positions(commits: list[Commit], findings: _Findings, *, gaps: bool) -> None:
    """Each commit must go on where the ones before it ended; behind a damaged entry that can't be told."""
    if gaps:
        return
    next_offset: dict[tuple[str, int], int] = {}
    for commit in commits:
        claimed = 0
        for span in _spans(commit, findings):
            key = (span.source_id, span.partition)
            expected = next_offset.get(key, span.gap_from if span.begins_anywhere else 0)
            if span.gap_from != expected:
                findings.entry(
                    commit.version,
                    f"goes on at offset {span.gap_from} of {span.name}, but the commits before it end at {expected}",
                )
            if not _is_sound(span):
                findings.entry(
                    commit.version, f"claims stretches of {span.name} that overlap or lead outside"
                )
            next_offset[key] = span.next_offset
            claimed += span.events
        if not claimed == commit.events == sum(file.num_records for file in commit.added):
            findings.entry(commit.version, f"claims {claimed} events by position, but counts {commit.events}")


def _is_sound(span: Span) -> bool:
    """Whether the runs of a span lie one after the other between its ends."""
    starts, ends = span.runs[:, 0], span.runs.sum(axis=1)
    return bool(
        span.gap_from <= span.first_offset <= span.next_offset
        and (span.runs[:, 1] >= 0).all()
        and (starts >= span.first_offset).all()
        and (ends <= span.next_offset).all()
        and (starts[1:] >= ends[:-1]).all()
    )


def _spans(commit: Commit, findings: _Findings) -> list[Span]:
    try:
        return spans(commit.claims)
    except (KeyError, ValueError, TypeError) as error:
        findings.entry(commit.version, f"has positions that can't be read ({error})")
        return []


def _check_file(table: Store, commit: Commit, file: DataFile) -> list[Damage]:
    findings = _Findings(table)
    claimed = _spans(commit, findings)
    affected = _ranges(claimed)
    try:
        path = Path(table.place(layout.checked_data_file(file.path, table.url)))
    except ArchiveDamaged as error:
        findings.entry(commit.version, f"leads outside the table: {error}", affected)
        return findings.damages
    try:
        size_bytes = path.stat().st_size
        digest = sha256_of(path)
    except OSError as error:
        findings.add(path, f"can't be read ({error.strerror})", affected)
        return findings.damages
    if size_bytes != file.size_bytes:
        findings.add(path, f"has {size_bytes} bytes instead of {file.size_bytes}", affected)
    elif digest != file.sha256:
        findings.add(path, "is damaged: it does not match its SHA-256", affected)
    else:
        try:
            findings.damages += [
                Damage(str(path), fault, affected) for fault in _row_faults(path, commit, file, claimed)
            ]
        except (OSError, pa.ArrowException) as error:
            findings.add(path, f"is no readable Parquet file ({error})", affected)
    return findings.damages


def _row_faults(path: Path, commit: Commit, file: DataFile, claimed: list[Span]) -> Iterator[str]:
    """What the rows of a file whose bytes are right say otherwise than its commit."""
    runs = np.concatenate([span.runs for span in claimed]) if claimed else np.empty((0, 2), np.int64)
    firsts, counts = runs[:, 0], runs[:, 1]
    ends = np.cumsum(counts)
    span_of_run = np.repeat(np.arange(len(claimed)), [len(span.runs) for span in claimed])
    partitions = np.array([span.partition for span in claimed], np.int32)
    source_ids = string_column([span.source_id for span in claimed])
    with open_data_file(path) as opened:
        parquet = pq.ParquetFile(opened)
        if parquet.metadata.num_rows != file.num_records:
            yield f"has {parquet.metadata.num_rows} rows, but its commit says {file.num_records}"
            return
        if counts.sum() != file.num_records:
            return  # a finding about the entry already
        at = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.read_row_group(group, columns=_CHECKED_COLUMNS)
            places = np.arange(at, at + rows.num_rows)
            at += rows.num_rows
            run = np.searchsorted(ends, places, side="right")
            spans_ = span_of_run[run]
            expected = {
                "source_partition": column(pa.int32(), partitions[spans_]),
                "source_offset": column(pa.int64(), places - (ends - counts)[run] + firsts[run]),
            }
            sources = source_ids.take(column(pa.int64(), spans_))
            faults = list(_group_faults(rows, commit, sources, expected))
            yield from faults
            if faults:
                return


def _group_faults(
    rows: pa.Table, commit: Commit, sources: pa.StringArray, expected: dict[str, pa.Array]
) -> Iterator[str]:
    """The same for one row group; `sources` and `expected` are what its rows must hold."""
    given = rows.select(list(expected)).append_column("source_id", rows["source_id"].cast(pa.string()))
    for name, wanted in {**expected, "source_id": sources}.items():
        if not given[name].equals(pa.chunked_array([wanted])):
            yield f"holds other values of {name} than the positions that its commit claims"
    for name, value in (
        ("commit_version", commit.version),
        ("ingested_at", commit.ingested_at_us),
        ("ingest_date", commit.ingested_at_us // 86_400_000_000),
    ):
        bounds = pc.min_max(
            rows[name].cast(pa.int64() if rows[name].type != pa.date32() else pa.int32())
        ).as_py()
        if rows.num_rows and set(bounds.values()) != {value}:
            yield f"holds another {name} than its commit"


def _ranges(claimed: list[Span]) -> str:
    ranges = [f"{span.name} {span.first_offset} to {span.next_offset - 1}" for span in claimed if span.events]
    more = f" and {len(ranges) - _RANGES_SHOWN} more" if len(ranges) > _RANGES_SHOWN else ""
    return "offsets of " + ", ".join(ranges[:_RANGES_SHOWN]) + more if ranges else ""


def _check_end(unreferenced: list[str], commits: list[Commit], findings: _Findings) -> None:
    """An interrupted write leaves a file for the next version at most; one for a later version tells of a cut log."""
    newest = commits[-1].version if commits else -1
    for path in unreferenced:
        version = layout.data_file_version(path)
        if version is not None and version > newest + 1:
            findings.add(
                findings.table.place(path),
                f"was written for commit {version}, but the log ends at {newest}: its newest entries were cut off",
                "the events of those commits",
            )


def _unreferenced(table: Store, commits: list[Commit]) -> Iterator[str]:
    known = {file.path for commit in commits for file in commit.added}
    for file in table.files():
        is_ours = layout.is_data_file(file.name) or layout.is_pending(file.name.rpartition("/")[2])
        if is_ours and file.name not in known:
            yield table.place(file.name)
