"""What seals name beside segments, made again from the log: states, Delta's checkpoints, and the pointer to the newest of them.

Nothing is lost with them, since they are only what the log adds up to; so the log is repaired first. What doesn't live here:
segments, which hold the log itself (`entries`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.checkpoint import checkpoint_bytes
from event_archive.archive.history import iter_proved_entries
from event_archive.archive.state import decode_state, encode_state
from event_archive.errors import ArchiveDamaged, FileMissing
from event_archive.repair.entries import WrongFile
from event_archive.sealing import Fold, pointer_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from event_archive.archive.log import Sealed, SegmentFact
    from event_archive.storage.store import Store

_KEPT = 2
"""Of how many seals there must be state and checkpoint."""
_MISSING = "is missing"


def wrong_ends(
    table: Store, other: Store | None, seals: Sequence[Sealed], *, is_log_whole: bool
) -> Iterator[WrongFile]:
    """States, checkpoints and pointer that are damaged or missing.

    Args:
        table: the table; each file should be put in its place before the next is asked for.
        other: a copy of it.
        seals: its seals, the newest first.
        is_log_whole: whether anything can be computed from its log.
    """
    for number, seal in enumerate(seals):
        for name, sha256 in ((seal.state, seal.state_sha256), (seal.checkpoint, seal.checkpoint_sha256)):
            fault = _fault(table, name, sha256)
            if fault is None or (fault == _MISSING and number >= _KEPT):
                continue
            content, found_in = None, "the log is damaged; repair it first"
            if is_log_whole:
                made = sealed_ends(table, seal)
                content, found_in = (
                    made[1 if name == seal.checkpoint else 0],
                    "the log, which it was computed from",
                )
                if hashlib.sha256(content).hexdigest() != sha256:
                    content = None
                    found_in = "this version of the software computes other bytes from the log; name an archive that has it with --from"
            if content is None and other is not None and _fault(other, name, sha256) is None:
                content, found_in = other.read(name), other.url
            yield WrongFile(name, fault, content, sha256, found_in)
    if is_log_whole:  # else a newer seal may be among what isn't known
        yield from _wrong_pointer(table, seals[:_KEPT])


def sealed_ends(table: Store, seal: Sealed) -> tuple[bytes, bytes]:
    """State and checkpoint that a seal names, computed from the whole log.

    Raises:
        ArchiveDamaged: the log can't be read.
    """
    until = layout.state_version(seal.state.rpartition("/")[2])
    if until is None:
        raise ArchiveDamaged(
            f"{table.url}: the log names the state {seal.state!r}, which is no name of a state."
        )
    fold = Fold(None)
    segments: list[SegmentFact] = []
    for commit, entry in iter_proved_entries(table):
        if commit.version > until:
            break
        fold.note(commit, entry)
        segments += commit.sealed.segments if commit.sealed else ()
    state = fold.state([*segments, *seal.segments])
    checkpoint = checkpoint_bytes(
        protocol=state.protocol,
        metadata=state.metadata,
        transactions=state.transactions,
        files=state.files,
        removed=state.removed,
    )
    return encode_state(state), checkpoint


def _fault(table: Store, name: str, sha256: str) -> str | None:
    try:
        is_right = hashlib.sha256(table.read(name)).hexdigest() == sha256
    except FileMissing:
        return _MISSING
    return None if is_right else "is damaged: it does not have the SHA-256 that the log says"


def _wrong_pointer(table: Store, seals: Sequence[Sealed]) -> Iterator[WrongFile]:
    pointers = [
        pointer_to(decode_state(table.read(seal.state)), table.size(seal.checkpoint))
        for seal in seals
        if _fault(table, seal.state, seal.state_sha256) is None
        and _fault(table, seal.checkpoint, seal.checkpoint_sha256) is None
    ]
    try:
        there: bytes | None = table.read(layout.LAST_CHECKPOINT)
    except FileMissing:
        there = None
    if pointers and there not in pointers:
        fault = _MISSING if there is None else "does not point to a checkpoint of this table as it should"
        digest = hashlib.sha256(pointers[0]).hexdigest()
        yield WrongFile(
            layout.LAST_CHECKPOINT, fault, pointers[0], digest, "the log, which it was computed from"
        )
