"""What strace wrote down: calls to the operating system, with the paths that they are about.

What doesn't live here: making a trace (`tracing`), and what the calls do to a disk (`lossy_disk`).
"""

from __future__ import annotations

import os.path
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# What each call is given: f a file that is open, n a name, a a name after the folder that it may be relative to, d data, s a text.
_FORMS = {
    "open": "n",
    "creat": "n",
    "openat": "a",
    "write": "fd",
    "pwrite64": "fd",
    "writev": "f",
    "pwritev": "f",
    "pwritev2": "f",
    "fsync": "f",
    "fdatasync": "f",
    "link": "nn",
    "linkat": "aa",
    "rename": "nn",
    "renameat": "aa",
    "renameat2": "aa",
    "unlink": "n",
    "unlinkat": "a",
    "rmdir": "n",
    "mkdir": "n",
    "mkdirat": "a",
    "symlink": "sn",
    "symlinkat": "sa",
    "truncate": "n",
    "ftruncate": "f",
    "fallocate": "f",
    "chmod": "n",
    "fchmod": "f",
    "fchmodat": "a",
    "copy_file_range": "ff",
    "sendfile": "ff",
}
CHANGING = tuple(_FORMS)
"""Calls that change something on a disk; of those that open a file, the ones that make or empty it."""
OPENING = ("open", "creat", "openat")
SENT = "sendto"
"""How a piece of work says what it acknowledges."""
SEEKING = "lseek"

_BYTES = r"(?:\\x[0-9a-f]{2})*"
_STRING = re.compile(rf'"({_BYTES})"')
_FILE = re.compile(rf"(-?[0-9]+|AT_FDCWD)<({_BYTES})>")
_LINE = re.compile(r"(?:(\d+) +)?(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (\?|-?[0-9]+)(.*)", re.DOTALL)
_UNFINISHED = re.compile(r"(\w+)\((.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_ERROR = re.compile(r" (E[A-Z0-9]+) ")
_CREATES = re.compile(r"\bO_(CREAT|TRUNC)\b")
_UNIQUE = re.compile(
    r"[0-9a-f]{32}|[0-9]{8}T[0-9]{12}Z-[0-9a-f]{6}|(?<=current\.duckdb\.)[0-9a-f]{8}|(?<=ingest_date=)[0-9-]{10}"
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has ended, or in which the process was stopped."""

    thread: int
    name: str
    number: int
    """Which of the calls of this name in this thread it is, from 1."""
    paths: tuple[str, ...]
    """Absolute; for an open file, the name that it had."""
    texts: tuple[bytes, ...]
    """What it was given besides: data to write, the target of a symbolic link."""
    rest: str
    """Everything it was given, as strace writes it."""
    result: int | None
    """None if it never came back."""
    error: str
    """`ENOSPC`, …; empty if it went well."""
    is_injected: bool
    """Whether the error was made up by strace."""

    @property
    def file(self) -> int:
        """Number of the open file that it was given first."""
        found = _FILE.match(self.rest)
        return int(found[1]) if found and found[1] != "AT_FDCWD" else -1

    @property
    def opened_path(self) -> str:
        """Of a call that opened a file: the file's own path."""
        return self.paths[-1]

    def numbers(self) -> list[int]:
        """The plain numbers that it was given, in order."""
        plain = _STRING.sub("", _FILE.sub("", self.rest))
        return [int(number) for number in re.findall(r"(?<![\w.])-?[0-9]+\b", plain)]

    def changes(self, folder: Path) -> bool:
        """Whether it is one that changes something in a folder."""
        if self.name not in CHANGING or (self.name in OPENING and not _CREATES.search(self.rest + self.name)):
            return False
        return any(path == str(folder) or path.startswith(f"{folder}/") for path in self.paths)

    def told(self, folder: Path) -> str:
        """The call in words that are the same in each run."""
        inside = [os.path.relpath(path, folder) for path in self.paths]
        return _UNIQUE.sub("…", f"{self.name} {' '.join(inside)}")


def read_calls(trace: Path) -> list[Call]:
    """The calls of a trace made with `strace -f -y -xx`, in the order in which they ended."""
    with trace.open(encoding="ascii", errors="replace") as lines:
        return list(_calls(lines))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    counts: Counter[tuple[int, str]] = Counter()
    begun: dict[int, tuple[str, str, int]] = {}
    for line in lines:
        found = _LINE.match(line)
        if not found:
            continue
        thread, text = int(found[1] or 0), found[2]
        if resumed := _RESUMED.match(text):
            if thread not in begun:
                continue
            name, start, number = begun.pop(thread)
            text = start + resumed[2]
        elif text.startswith(("+++", "---")):
            if text.startswith("+++") and thread in begun:
                name, start, number = begun.pop(thread)
                yield _call(thread, name, number, start)
            continue
        else:
            name = text.partition("(")[0]
            counts[thread, name] += 1
            number = counts[thread, name]
            if unfinished := _UNFINISHED.match(text):
                begun[thread] = (name, f"{name}({unfinished[2]}", number)
                continue
        if ended := _CALL.match(text):
            result = None if ended[3] == "?" else int(ended[3])
            yield _call(thread, name, number, ended[2], result=result, said=ended[4])


def _call(
    thread: int, name: str, number: int, given: str, *, result: int | None = None, said: str = ""
) -> Call:
    given = given.removeprefix(f"{name}(")
    paths, texts = [], []
    at = 0
    for form in _FORMS.get(name, "d" if name == SENT else ""):
        folder = ""
        if form in "fa":
            if not (file := _FILE.search(given, at)):
                break
            at = file.end()
            folder = _text(file[2]).decode(errors="surrogateescape")
            if form == "f":
                paths.append(folder)
                continue
        if not (string := _STRING.search(given, at)):
            break
        at = string.end()
        if form in "na":
            name_given = _text(string[1]).decode(errors="surrogateescape")
            paths.append(os.path.normpath(os.path.join(folder, name_given)))  # noqa: PTH118 - as the call had it
        else:
            texts.append(_text(string[1]))
    error = found[1] if (found := _ERROR.match(said)) else ""
    return Call(thread, name, number, tuple(paths), tuple(texts), given, result, error, "(INJECTED)" in said)


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))
