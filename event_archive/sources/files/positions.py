"""How far each file of a landing folder is archived: the fold of what the commits claim.

A file is named by its `source_id`: `file:<path relative to the landing folder>`, with control characters and bytes that
are no UTF-8 percent-encoded (and a `%` that would look like that). The second generation of a file, which an operator
accepted after the file had changed, is `file:<path>#2`; no event file's own name ends in a digit.

What doesn't live here: what the files are now (`landing`).
"""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from event_archive.archive.log import Commit

_TO_ENCODE = re.compile(r"%(?=[0-9A-F]{2})|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ENCODED = re.compile(r"((?:%[0-9A-F]{2})+)")

_NO_LINES = np.empty(0, np.int64)

OPEN_LINE = "open line"
DAMAGED = "damaged"
ACCEPTED_DAMAGE = "accepted damage"


@dataclass(frozen=True, slots=True)
class FileState:
    """How far one generation of one file is archived, and what the file looked like then."""

    source_id: str
    records: int
    """Number of records archived, so the offset of the next one."""
    position_bytes: int
    """Decompressed bytes up to which the file is archived."""
    sha256: str
    """Of the decompressed bytes up to the position."""
    terminated: bool
    """Whether those bytes end in a line end, or there are none."""
    size_bytes: int
    """Size on the disk when it was last read."""
    mtime_ns: int
    ctime_ns: int
    left: str
    """Why bytes beyond the position were left: empty if none were, else one of the words above, and for damage a reason
    after a colon."""

    @property
    def is_damaged(self) -> bool:
        """Whether the file could not be decompressed to its end, and nobody has accepted that."""
        return self.left.startswith(DAMAGED)


COLUMNS = tuple(FileState.__dataclass_fields__)
UNREAD = FileState(
    "", 0, 0, sha256(b"").hexdigest(), terminated=True, size_bytes=-1, mtime_ns=-1, ctime_ns=-1, left=""
)


def encode_source_id(path: str, generation: int = 1) -> str:
    """Source id of a file; `path` is relative to the landing folder, as `os.fsdecode` gives it."""

    def percent(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogateescape"))

    encoded = _TO_ENCODE.sub(percent, path)
    return f"file:{encoded}" + (f"#{generation}" if generation > 1 else "")


def decode_source_id(source_id: str) -> tuple[str, int]:
    """Path and generation of a source id."""
    name, generation = source_id.removeprefix("file:"), 1
    if name[-1:].isdigit():  # no event file's name ends so
        name, _, number = name.rpartition("#")
        generation = int(number)

    def plain(match: re.Match[str]) -> str:
        return bytes.fromhex(match.group().replace("%", "")).decode("utf-8", "surrogateescape")

    return _ENCODED.sub(plain, name) if "%" in name else name, generation


class Positions:
    """The newest state of each file, by path; give its `note` to `read_snapshot`."""

    def __init__(self) -> None:
        self.by_path: dict[str, FileState] = {}
        self.generations: dict[str, int] = {}
        self.total_records = 0

    def note(self, commit: Commit) -> None:
        """Takes in the claims of the next commit."""
        self.total_records += commit.events
        for state in states(commit.claims):
            self.put(state)

    def put(self, state: FileState) -> None:
        """Replaces the state of the file that `state` speaks of."""
        path, generation = decode_source_id(state.source_id)
        self.by_path[path] = state
        self.generations[path] = generation


def is_of_files(claims: dict[str, list[Any]]) -> bool:
    """Whether the claims of a commit are about files."""
    return "position_bytes" in claims


def states(claims: dict[str, list[Any]]) -> Iterable[FileState]:
    """States that a commit's claims hold, in the order of its rows."""
    if not is_of_files(claims):
        return ()
    return map(FileState, *(claims[column] for column in COLUMNS))


@dataclass(frozen=True, slots=True)
class Claim:
    """What one commit says of one file: where it stood, where it stands, and which blank lines lie between."""

    first_record: int
    state: FileState
    blank_before: npt.NDArray[np.int64]
    """Shape (blank lines,), ascending: the record before which each blank line lies."""


def encode_claims(claims: Iterable[Claim]) -> dict[str, list[Any]]:
    """Claims as the columns that a log entry carries, one item per file."""
    listed = list(claims)
    columns: dict[str, list[Any]] = {
        "first_record": [claim.first_record for claim in listed],
        "blank_lines": [_encode_blank_lines(claim.blank_before) for claim in listed],
    }
    return columns | {column: [getattr(claim.state, column) for claim in listed] for column in COLUMNS}


def decode_claims(claims: dict[str, list[Any]]) -> list[Claim]:
    """The inverse of `encode_claims`; claims about other kinds of sources give none."""
    if not is_of_files(claims):
        return []
    return [
        Claim(first, state, _decode_blank_lines(blank))
        for first, state, blank in zip(
            claims["first_record"], states(claims), claims["blank_lines"], strict=True
        )
    ]


def _encode_blank_lines(blank_before: npt.NDArray[np.int64]) -> str:
    if not len(blank_before):
        return ""
    # As steps: blank lines in a regular pattern, as some writers make them, shrink to almost nothing.
    steps = np.diff(blank_before, prepend=0).astype("<i8")
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def _decode_blank_lines(text: str) -> npt.NDArray[np.int64]:
    if not text:
        return _NO_LINES
    steps = zlib.decompress(base64.b64decode(text))
    return np.cumsum(np.frombuffer(steps, "<i8"), dtype=np.int64)
