"""How far an interrupted proof has come, so that it can go on: which files were proved, and how they looked then.

It is kept in a local folder, used only on request, and never taken for a proof by itself: a file counts as proved only if the table, the
commit that brought it, its size and its time of modification are the same, and not for long.

What doesn't live here: proving files (`files`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.storage.store import StoredFile
    from event_archive.verify.plan import FileTask

_FORMAT = 1
_EVERY_SECONDS = 10.0
VALID = dt.timedelta(days=7)


class Journal:
    """The files of one table that were proved."""

    def __init__(self, path: Path, *, table: str, table_id: str, is_deep: bool, resume: bool) -> None:
        """Reads what is there, if it is to be used.

        Args:
            path: of the journal.
            table: the place of the table.
            table_id: SHA-256 of its first log entry.
            is_deep: whether files are proved to their last column; a journal that isn't doesn't count for one that is.
            resume: whether to use what is there.
        """
        self._path = path
        self._head = {"format": _FORMAT, "table": table, "table_id": table_id}
        self._is_deep = is_deep
        self._files: dict[str, dict[str, Any]] = {}
        self._saved_at = time.monotonic()
        if resume:
            self._read()

    def _read(self) -> None:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if {name: document[name] for name in self._head} == self._head:
                self._files = dict(document["files"])
        except (OSError, ValueError, KeyError, TypeError):
            self._files = {}  # it only spares work

    def has(self, task: FileTask, stored: StoredFile | None) -> bool:
        """Whether a file was proved not long ago and looks as it did."""
        known = self._files.get(task.file.path)
        if known is None or stored is None:
            return False
        try:
            proved_at = dt.datetime.fromisoformat(known["proved_at"])
            is_young = dt.timedelta(0) <= _now() - proved_at < VALID
            is_enough = bool(known["is_deep"]) or not self._is_deep
        except (KeyError, TypeError, ValueError):
            return False
        looks = _looks(task, stored)
        return is_young and is_enough and {name: known.get(name) for name in looks} == looks

    def note(self, task: FileTask, stored: StoredFile | None) -> None:
        """Records a file that was proved now, given how it looked before; writes the journal now and then."""
        if stored is None:
            return
        self._files[task.file.path] = {
            **_looks(task, stored),
            "proved_at": _now().isoformat(),
            "is_deep": self._is_deep,
        }
        if time.monotonic() - self._saved_at >= _EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Writes the journal, whole or not at all; that it can't be written is no reason to stop."""
        pending = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            pending.write_text(json.dumps({**self._head, "files": self._files}), encoding="utf-8")
            pending.replace(self._path)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Forgets all: the proof is complete."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _looks(task: FileTask, stored: StoredFile) -> dict[str, Any]:
    return {
        "sha256": task.file.sha256,
        "entry_sha256": task.entry_sha256,
        "size_bytes": stored.size_bytes,
        "modified_at": stored.modified_at.isoformat(),
    }


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
