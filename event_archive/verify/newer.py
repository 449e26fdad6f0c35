"""Seals that come while an archive is proved: by them it is judged what may be gone meanwhile.

What doesn't live here: the seals of the proved part of the log (`seals`).
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from event_archive.archive.history import iter_commits
from event_archive.archive.state import decode_state
from event_archive.errors import ArchiveDamaged, FileMissing
from event_archive.sealing import pointer_to

if TYPE_CHECKING:
    from event_archive.archive.log import Sealed
    from event_archive.storage.store import Store
    from event_archive.verify.ledger import Ledger


class NewerSeals:
    """The seals after the part of a log that was proved, as it goes on now."""

    def __init__(self, table: Store, ledger: Ledger) -> None:
        """Looks at nothing yet.

        Args:
            table: the table.
            ledger: knows up to where the log was proved, once it has come to its end.
        """
        self._table = table
        self._ledger = ledger
        self._seen: tuple[int, str] | None = None
        self._seals: list[Sealed] = []

    def seals(self) -> list[Sealed]:
        """All until this moment, in order; each commit up to there proves itself and is built on the one before."""
        if self._ledger.entry_sha256 is None:
            return []
        if self._seen is None:
            self._seen = (self._ledger.version, self._ledger.entry_sha256)
        # What is wrong beyond the part that is proved is found by the next proof.
        with contextlib.suppress(ArchiveDamaged):
            for commit in iter_commits(self._table, after=self._seen):
                self._seen = (commit.version, commit.entry_sha256)
                if commit.sealed is not None:
                    self._seals.append(commit.sealed)
        return self._seals

    def pointers(self) -> set[bytes]:
        """What `_last_checkpoint` may say, by those of these seals whose state and checkpoint are still there."""
        found = set()
        for sealed in self.seals():
            with contextlib.suppress(ArchiveDamaged, FileMissing):
                state, checkpoint = self._table.read(sealed.state), self._table.read(sealed.checkpoint)
                hashes = tuple(hashlib.sha256(content).hexdigest() for content in (state, checkpoint))
                if hashes == (sealed.state_sha256, sealed.checkpoint_sha256):
                    found.add(pointer_to(decode_state(state), len(checkpoint)))
        return found
