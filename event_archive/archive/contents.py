"""What each data file holds: which spans of which commits, in which order.

A span is the stretch of one source partition that one commit brought; see `sources.claims`. A file that a commit brought holds
the spans of its claims that have events, in their order. Files that took the place of others (a commit of the operation COMPACT) hold the same
spans, sorted by source id, partition and first offset, each file as many as the commit says. So the log alone says what every file must hold.

What doesn't live here: comparing files with it (`event_archive.verify`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import ArchiveDamaged
from event_archive.sources.claims import Span, spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from event_archive.archive.log import Commit


@dataclass(frozen=True, slots=True)
class HeldSpan:
    """A span as a file holds it."""

    commit_version: int
    ingested_at_us: int
    span: Span
    digest: str
    """Its row digest; empty if its commit recorded none (format 1)."""

    @property
    def order(self) -> tuple[bytes, int, int]:
        """By what spans of files that took the place of others are sorted."""
        return (self.span.source_id.encode(), self.span.partition, self.span.first_offset)


class Contents:
    """What the data files hold, as the log tells it; give it the commits in order."""

    def __init__(self) -> None:
        self.by_file: dict[str, tuple[HeldSpan, ...]] = {}
        """By path, of the files that are part of the table."""

    def note(self, commit: Commit) -> None:
        """Takes in the next commit.

        Raises:
            ArchiveDamaged: the commit can't be right.
        """
        if commit.compacted is not None:
            self._replace(commit)
        elif commit.added:
            held = held_spans(commit)
            if len(commit.added) != 1:
                raise ArchiveDamaged(
                    f"log entry {commit.version} brings {len(commit.added)} files instead of one."
                )
            self.by_file[commit.added[0].path] = held

    def _replace(self, commit: Commit) -> None:
        compacted = commit.compacted
        assert compacted is not None  # noqa: S101 - for the type checker
        added = {file.path: file for file in commit.added}
        if set(compacted.inputs) != set(commit.removed) or {path for path, _ in compacted.outputs} != set(
            added
        ):
            raise ArchiveDamaged(f"log entry {commit.version} replaces other files than it says.")
        missing = [path for path in compacted.inputs if path not in self.by_file]
        if missing:
            raise ArchiveDamaged(
                f"log entry {commit.version} replaces {missing[0]}, which is not part of the table."
            )
        rest = sorted_spans(self.by_file.pop(path) for path in compacted.inputs)
        if sum(count for _, count in compacted.outputs) != len(rest):
            raise ArchiveDamaged(
                f"log entry {commit.version} replaces files by others with fewer or more spans."
            )
        for path, count in compacted.outputs:
            held, rest = tuple(rest[:count]), rest[count:]
            if sum(item.span.events for item in held) != added[path].num_records:
                raise ArchiveDamaged(
                    f"log entry {commit.version} says that {path} has {added[path].num_records} rows, but its spans have others."
                )
            self.by_file[path] = held


def held_spans(commit: Commit) -> tuple[HeldSpan, ...]:
    """The spans with events that a commit brought, in the order of its rows.

    Raises:
        ArchiveDamaged: the positions can't be read, or the row digests are of another number.
    """
    try:
        found = [span for span in spans(commit.claims) if span.events]
    except (KeyError, ValueError, TypeError) as error:
        raise ArchiveDamaged(
            f"log entry {commit.version} has positions that can't be read ({error})."
        ) from error
    digests: Sequence[str] = commit.digests or [""] * len(found)
    if len(digests) != len(found):
        raise ArchiveDamaged(
            f"log entry {commit.version} has {len(digests)} row digests for {len(found)} stretches of events."
        )
    return tuple(
        HeldSpan(commit.version, commit.ingested_at_us, span, digest)
        for span, digest in zip(found, digests, strict=True)
    )


def sorted_spans(files: Iterable[Iterable[HeldSpan]]) -> list[HeldSpan]:
    """The spans of several files in the order in which files that replace them hold them."""
    return sorted((held for file in files for held in file), key=lambda held: held.order)
