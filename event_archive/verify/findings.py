"""What a proof found: damages, each with its file and what it affects, and the report of it all.

What doesn't live here: finding it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from event_archive import layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from event_archive.storage.store import Store

Kind = Literal["entry", "segment", "state", "checkpoint", "pointer", "data", "head"]
_RANGES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it must be."""

    path: str
    """The damaged file, as a person would write it."""
    reason: str
    affected: str
    """Which events, as far as the log tells."""
    name: str = ""
    """The damaged file, relative to the table."""
    kind: Kind = "data"

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
    """Data files that are part of the table."""
    events: int
    bytes_read: int
    damages: tuple[Damage, ...]
    unreferenced: tuple[str, ...]
    """Files that no commit speaks of, as an interrupted write leaves them: harmless."""
    replaced: tuple[str, ...] = ()
    """Files that are still there though compaction put others in their place: harmless."""
    notes: tuple[str, ...] = ()
    """What is worth a word and no damage."""
    scope: str = "all"
    """Which data files were read, in words."""
    files_read: int = 0
    files_proved_before: int = 0
    """Not read again: an interrupted `verify` had proved them, and they look unchanged."""
    seed: int | None = None
    """Of the sample."""
    digests_compared: int = 0
    """Row digests that were computed anew and compared."""
    digests_missing: int = 0
    """Stretches of events without a row digest to compare with: their commits are of format 1."""
    seconds: float = 0.0

    def with_heads(self, table: Store, faults: Iterable[str]) -> VerifyReport:
        """The same, with what is wrong about heads that were kept elsewhere: whole sentences."""
        found = [
            Damage(table.url, f"is not what it was: {fault.rstrip('.')}", "", "", "head") for fault in faults
        ]
        return replace(self, damages=(*self.damages, *found))

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged, of what was looked at."""
        return not self.damages


@dataclass(slots=True)
class Findings:
    """What was found until now."""

    table: Store
    damages: list[Damage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0

    def add(self, name: str, reason: str, affected: str = "", *, kind: Kind = "data") -> int:
        """Records damage of a file; its number is for `affect` and `withdraw`."""
        self.damages.append(Damage(self.table.place(name), reason, affected, name, kind))
        return len(self.damages) - 1

    def entry(self, version: int, reason: str, affected: str = "") -> int:
        """Records damage of a log entry."""
        return self.add(layout.entry_name(version), reason, affected, kind="entry")

    def note(self, text: str) -> None:
        """Records something harmless."""
        self.notes.append(text)

    def affect(self, number: int, affected: str) -> None:
        """Says later what a damage affects."""
        self.damages[number] = replace(self.damages[number], affected=affected)

    def reword(self, number: int, reason: str) -> None:
        """Says later what a damage is."""
        self.damages[number] = replace(self.damages[number], reason=reason)

    def without(self, numbers: set[int]) -> tuple[Damage, ...]:
        """All damages but some, which others tell of."""
        return tuple(damage for number, damage in enumerate(self.damages) if number not in numbers)


def ranges(stretches: Iterable[tuple[str, int, int]]) -> str:
    """Stretches of offsets (a partition's name, first offset, next offset) in words, a few of them; empty if there are none."""
    listed = [f"{name} {first} to {after - 1}" for name, first, after in stretches]
    more = f" and {len(listed) - _RANGES_SHOWN} more" if len(listed) > _RANGES_SHOWN else ""
    return "offsets of " + ", ".join(listed[:_RANGES_SHOWN]) + more if listed else ""
