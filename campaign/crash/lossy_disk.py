"""A disk that keeps only what was synced: the folders that a power cut may leave at each moment of a trace.

A file's bytes are safe once the file was synced, a name once its folder was; nothing else is, as POSIX has it and in any
combination. Real file systems are kinder. What doesn't live here: whether what is left is in order (`operations`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.crash.calls import CHANGING, OPENING, SEEKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from campaign.crash.calls import Call

LOST = "names and bytes that were not synced are lost"
EMPTY = "names are kept, bytes that were not synced are lost"
CUT = "names are kept, half of the bytes that were not synced is lost"
REMOVED = "removals are kept, other names and bytes that were not synced are lost"
WAYS = (LOST, EMPTY, CUT, REMOVED)
"""What a power cut may do to what was not synced."""


@dataclass(eq=False, slots=True)
class File:
    """A file, by whatever names."""

    origin: Path | None = None
    """Where its first content lies, if it was there before the trace."""
    _content: bytearray | None = None
    _synced: bytes = b""

    @property
    def content(self) -> bytes:
        """As the running system sees it."""
        return bytes(self._bytes())

    @property
    def synced(self) -> bytes:
        """As the disk has it for sure."""
        if self._content is None and self.origin is not None:
            return self.origin.read_bytes()
        return self._synced

    @property
    def is_untouched(self) -> bool:
        """Whether it is as it was before the trace."""
        return self._content is None and self.origin is not None

    @property
    def is_durable(self) -> bool:
        """Whether all its bytes are on the disk for sure."""
        return self.is_untouched or self.content == self._synced

    def write(self, at: int, data: bytes) -> None:
        """Puts bytes somewhere."""
        content = self._bytes()
        if len(content) < at:
            content.extend(bytes(at - len(content)))
        content[at : at + len(data)] = data

    def truncate(self, size: int) -> None:
        """Cuts it, or makes it longer."""
        content = self._bytes()
        del content[size:]
        content.extend(bytes(size - len(content)))

    def sync(self) -> None:
        """Has its bytes on the disk."""
        self._synced = self.synced if self.is_untouched else self.content

    def after(self, way: str) -> bytes:
        """Its bytes after a power cut."""
        if way != CUT:
            return self.synced
        content, synced = self.content, self.synced
        if content.startswith(synced):
            return content[: (len(content) + len(synced) + 1) // 2]
        middle = len(content) // 2
        return content[:middle] + synced[middle:]

    def _bytes(self) -> bytearray:
        if self._content is None:
            self._synced = self.origin.read_bytes() if self.origin else b""
            self._content = bytearray(self._synced)
        return self._content


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(eq=False, slots=True)
class Folder:
    """A folder: names as the running system sees them, and as the disk has them for sure."""

    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)

    def after(self, way: str) -> dict[str, Node]:
        """Its names after a power cut."""
        if way == LOST:
            return self.synced
        if way == REMOVED:
            return {name: node for name, node in self.synced.items() if name in self.names}
        return self.names


Node = File | Folder | Link


class LossyDisk:
    """A folder that is durable as it is, and what calls do to it."""

    def __init__(self, folder: Path) -> None:
        """Takes in a folder as it was before the trace.

        Args:
            folder: must not change as long as this disk is used.
        """
        self._top = _loaded(folder)
        self._moved_from = ""
        self._at: dict[int, int] = {}
        self._appending: set[int] = set()

    def play(self, call: Call, folder: Path) -> None:  # noqa: C901, PLR0912 - one call after the other
        """Does what a call did that went well.

        Args:
            call: the call.
            folder: where the traced folder lay.
        """
        if call.error or call.result is None or call.result < 0:
            return
        if call.name == SEEKING:
            self._at[call.file] = call.result
            return
        paths = [self._inside(path, folder) for path in call.paths]
        if call.name in OPENING:
            self._open(call, paths[-1])
            return
        if call.name in CHANGING and not all(map(os.path.isabs, call.paths)):
            raise ValueError(f"a trace doesn't tell where {call.name}({call.rest}) was")
        if not call.changes(folder):
            return
        first, last = paths[0], paths[-1]
        match call.name:
            case "write" | "pwrite64":
                self._write(call, first)
            case "fsync" | "fdatasync":
                node = self._node(first)
                if isinstance(node, File):
                    node.sync()
                elif isinstance(node, Folder):
                    node.synced = dict(node.names)
            case "link" | "linkat":
                self._put(last, self._node(first))
            case "rename" | "renameat" | "renameat2":
                node = self._node(first)
                self._drop(first)
                self._put(last, node)
            case "unlink" | "unlinkat" | "rmdir":
                self._drop(first)
            case "mkdir" | "mkdirat":
                self._put(first, Folder())
            case "symlink" | "symlinkat":
                self._put(first, Link(os.fsdecode(call.texts[0])))
            case "truncate" | "ftruncate":
                self._file(first).truncate(call.numbers()[0])
            case "copy_file_range" | "sendfile":
                self._copy(call, first, last)
            case "chmod" | "fchmod" | "fchmodat" | "fallocate":
                pass
            case _:
                raise NotImplementedError(f"{call.name}({call.rest})")

    def file(self, path: str) -> File | None:
        """The file of a name, relative to the folder."""
        node = self._node(tuple(path.split("/")))
        return node if isinstance(node, File) else None

    def missing_syncs(self, path: str) -> list[str]:
        """What would have to be synced for a name and its bytes to be safe; empty if they are."""
        parts = tuple(path.split("/"))
        missing = []
        node = self._node(parts)
        if node is None:
            return [f"{path} does not exist"]
        if isinstance(node, File) and not node.is_durable:
            missing.append(f"the bytes of {path}")
        for length in range(len(parts)):
            folder = self._node(parts[:length])
            if isinstance(folder, Folder) and folder.synced.get(parts[length]) is not self._node(
                parts[: length + 1]
            ):
                missing.append(f"the name {'/'.join(parts[: length + 1])}")
        return missing

    def fingerprint(self, way: str) -> str:
        """The same exactly if a power cut would leave the same."""
        digest = hashlib.sha256()
        for path, node in _walk(self._top, way, ()):
            if isinstance(node, File):
                what = str(node.origin) if node.is_untouched else hashlib.sha256(node.after(way)).hexdigest()
            else:
                what = node.target if isinstance(node, Link) else "/"
            digest.update(json.dumps(["/".join(path), what]).encode())
        return digest.hexdigest()

    def write_to(self, folder: Path, way: str) -> None:
        """Puts down what a power cut leaves.

        Args:
            folder: a new one.
            way: what becomes of what was not synced.
        """
        folder.mkdir()
        for path, node in _walk(self._top, way, ()):
            place = folder.joinpath(*path)
            if isinstance(node, Folder):
                place.mkdir()
            elif isinstance(node, Link):
                place.symlink_to(node.target)
            elif node.is_untouched and node.origin is not None:
                shutil.copy2(node.origin, place)
            else:
                place.write_bytes(node.after(way))

    @staticmethod
    def _inside(path: str, folder: Path) -> tuple[str, ...]:
        """Empty for the folder itself; a path outside is never asked for."""
        return Path(os.path.relpath(path, folder)).parts

    def _node(self, path: tuple[str, ...]) -> Node | None:
        node: Node | None = self._top
        for part in path:
            if not isinstance(node, Folder):
                return None
            node = node.names.get(part)
        return node

    def _file(self, path: tuple[str, ...]) -> File:
        node = self._node(path)
        if not isinstance(node, File):
            raise FileNotFoundError("/".join(path))
        return node

    def _folder_of(self, path: tuple[str, ...]) -> Folder:
        node = self._node(path[:-1])
        if not isinstance(node, Folder):
            raise NotADirectoryError("/".join(path))
        return node

    def _put(self, path: tuple[str, ...], node: Node | None) -> None:
        if node is None:
            raise FileNotFoundError("/".join(path))
        self._folder_of(path).names[path[-1]] = node

    def _drop(self, path: tuple[str, ...]) -> None:
        self._folder_of(path).names.pop(path[-1], None)

    def _open(self, call: Call, path: tuple[str, ...]) -> None:
        number = call.result
        if number is None:
            return
        self._at[number] = 0
        self._appending.discard(number)
        if "O_APPEND" in call.rest:
            self._appending.add(number)
        if not path or path[0] == "..":
            return
        is_there = self._node(path) is not None
        if not is_there and ("O_CREAT" in call.rest or call.name == "creat"):
            self._put(path, File())
        if is_there and ("O_TRUNC" in call.rest or call.name == "creat"):
            self._file(path).truncate(0)

    def _write(self, call: Call, path: tuple[str, ...]) -> None:
        node = self._node(path)
        if not isinstance(node, File) or call.result is None:
            return  # its name is gone
        data = call.texts[0][: call.result]
        if len(data) < call.result:
            raise ValueError(f"the trace has not all of the {call.result} bytes that were written")
        if call.name == "pwrite64":
            node.write(call.numbers()[-1], data)
            return
        at = len(node.content) if call.file in self._appending else self._at.get(call.file, 0)
        node.write(at, data)
        self._at[call.file] = at + len(data)

    def _copy(self, call: Call, source: tuple[str, ...], target: tuple[str, ...]) -> None:
        """One that goes on where the files are, which is all that our own code asks for."""
        if not call.result or "NULL" not in call.rest:
            return
        numbers = [int(part.partition("<")[0]) for part in call.rest.split(", ") if "<" in part]
        reading, writing = numbers
        start, to = self._at.get(reading, 0), self._at.get(writing, 0)
        self._file(target).write(to, self._file(source).content[start : start + call.result])
        self._at[reading], self._at[writing] = start + call.result, to + call.result


def _walk(folder: Folder, way: str, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Node]]:
    for name, node in sorted(folder.after(way).items()):
        yield (*above, name), node
        if isinstance(node, Folder):
            yield from _walk(node, way, (*above, name))


def _loaded(folder: Path) -> Folder:
    loaded = Folder()
    for path in folder.iterdir():
        node: Node
        if path.is_symlink():
            node = Link(str(path.readlink()))
        elif path.is_dir():
            node = _loaded(path)
        else:
            node = File(path)
        loaded.names[path.name] = node
    loaded.synced = dict(loaded.names)
    return loaded
