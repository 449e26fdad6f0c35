"""What a checkpoint of Delta must say: what the log adds up to, and nothing else that a reader might use.

What doesn't live here: which checkpoints there are (`seals`), and making them (`event_archive.archive.checkpoint`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from event_archive import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from event_archive.archive.log import DataFile
    from event_archive.archive.state import State

_ROWS_AT_ONCE = 10_000
_MAPS = frozenset({"partitionValues", "configuration", "options", "tags"})
_OF_NO_USE = {"add": ("modificationTime",), "txn": ("lastUpdated",)}
"""Readers take these for times of the table, not for events of it; writers of checkpoints fill them in as they like."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the log up to one version adds up to."""

    state: State | None
    """None if commits before it contradict each other."""
    files: Mapping[str, DataFile]
    """By path, the active files."""


def checkpoint_fault(content: bytes, expected: Expected | None) -> str:
    """What is wrong with a checkpoint; empty if nothing.

    Args:
        content: the bytes of its file.
        expected: what it must say; None if that isn't known, then it must be readable.
    """
    comparison = _Comparison(expected)
    try:
        # Without threads: what they throw over bytes that nobody wrote may end the whole process.
        parquet = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
        if "add" not in parquet.schema_arrow.names:
            return "can't be read as a checkpoint (it has no column `add`)"
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            if expected is not None and (fault := comparison.fault_of(batch)):
                return fault
    except (pa.ArrowException, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        return f"can't be read as a checkpoint ({error})"
    return comparison.fault_at_end() if expected is not None else ""


class _Comparison:
    """One pass over the actions of a checkpoint."""

    def __init__(self, expected: Expected | None) -> None:
        self._files: Mapping[str, DataFile] = expected.files if expected else {}
        self._state = expected.state if expected else None
        self._seen: set[str] = set()
        self._transactions: dict[str, int] = {}
        self._single: dict[str, int] = {"protocol": 0, "metaData": 0}

    def fault_of(self, batch: pa.RecordBatch) -> str:
        """What is wrong with some of its rows; empty if nothing."""
        for kind, column in zip(batch.schema.names, batch.columns, strict=True):
            for item in column.drop_null().to_pylist():
                action = _plain(item)
                for name in _OF_NO_USE.get(kind, ()):
                    action.pop(name, None)
                if fault := self._fault_of(kind, action):
                    return fault
        return ""

    def fault_at_end(self) -> str:
        """What is missing in it; empty if nothing."""
        if self._seen != self._files.keys():
            return "names other files than were active"
        if self._state is not None:
            if self._transactions != self._state.transactions:
                return "has other txn versions than the log"
            if set(self._single.values()) != {1}:
                return "has not one protocol and one metaData"
        return ""

    def _fault_of(self, kind: str, action: dict[str, Any]) -> str:
        if kind == "add":
            return self._fault_of_file(action)
        if kind == "remove":
            path = action["path"]
            return f"says that {path} was removed, which is active" if path in self._files else ""
        if kind == "txn":
            application, version = action.pop("appId"), action.pop("version")
            is_odd = application in self._transactions or bool(action)
            self._transactions[application] = version
            return f"says more of the application {application} than one version" if is_odd else ""
        if kind not in self._single:
            return f"holds {kind}, which the log doesn't have"
        self._single[kind] += 1
        if self._state is not None:
            known = self._state.protocol if kind == "protocol" else self._state.metadata
            if action != _plain(known):
                return f"says another {kind} than the log"
        return ""

    def _fault_of_file(self, action: dict[str, Any]) -> str:
        path = action["path"]
        file = self._files.get(path)
        if file is None or path in self._seen:
            return "names other files than were active"
        self._seen.add(path)
        stats = action.pop("stats", None)
        # In the log it is true of files that brought events. A checkpoint may say so, or that itself is no change.
        is_change = action.pop("dataChange", None)
        if is_change is None or (is_change and layout.data_file_version(path) is None):
            return f"says another dataChange of {path} than the log"
        known = {
            "path": path,
            "size": file.size_bytes,
            "partitionValues": {"ingest_date": layout.ingest_date_of(path)},
        }
        if other := sorted(
            name for name in known.keys() | action.keys() if known.get(name) != action.get(name)
        ):
            return f"says another {other[0]} of {path} than the log"
        if stats != json.dumps(file.stats, separators=(",", ":")) and not _same(stats, file.stats):
            return f"says other statistics of {path} than the log"
        return ""


def _same(stats: str | None, known: dict[str, Any]) -> bool:
    """Whether statistics are the very same values: no wider bounds either."""
    return isinstance(stats, str) and json.dumps(json.loads(stats), sort_keys=True) == json.dumps(
        known, sort_keys=True
    )


def _plain(action: Mapping[str, Any]) -> dict[str, Any]:
    """An action without fields that are null or no tags, and with maps as dictionaries."""
    plain: dict[str, Any] = {}
    for name, value in action.items():
        known = dict(value) if name in _MAPS and isinstance(value, list) else value
        if isinstance(known, dict) and name not in _MAPS:
            known = _plain(known)
        if known is not None and not (name == "tags" and not known):
            plain[name] = known
    return plain
