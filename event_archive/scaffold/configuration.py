"""Adds a stream to `event_archive.yaml` as text, so that comments and order stay as somebody wrote them.

What doesn't live here: what the keys mean (`event_archive.config`).
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from event_archive.config import load_config, parse_config
from event_archive.durable import storage_errors, sync
from event_archive.errors import ConfigurationError, UsageError
from event_archive.scaffold.naming import check_name
from event_archive.source_config import FilesSource

if TYPE_CHECKING:
    from pathlib import Path

_INDENT = 2


def stream_lines(stream: str, landing: str, indent: int = _INDENT) -> list[str]:
    """The lines that say where a stream comes from, as they stand under `streams:`."""
    one, two = " " * indent, " " * 2 * indent
    return [
        f"{one}{stream}:",
        f'{two}description: "TODO: one sentence on what these events say"',
        f"{two}source: {{type: files, path: {json.dumps(landing)}, format: json_lines}}",
    ]


@dataclass(frozen=True, slots=True)
class Addition:
    """A configuration with one stream more, as it will be.

    Attributes:
        path: The configuration.
        stream: The stream's name.
        lines: The lines that are added.
        landing: The folder in which its files land.
        before: The file as it was read.
        after: The file as it will be.
    """

    path: Path
    stream: str
    lines: tuple[str, ...]
    landing: Path
    before: bytes
    after: bytes


def plan_addition(path: Path, stream: str, landing: str) -> Addition:
    """Finds where a stream goes at the end of `streams:`, and that the configuration says nothing else new then. Nothing is written.

    Args:
        path: The configuration.
        stream: Its name, which isn't configured yet.
        landing: The folder in which its files land.

    Raises:
        UsageError: The configuration isn't written in a way to which lines can be added.
    """
    check_name(stream, "stream")
    with storage_errors(path):
        before = path.read_bytes()
    text = before.decode("utf-8")
    old = parse_config(text, path)
    refused = "write `streams:` with a key a line, or give --no-write and add the lines yourself"
    try:
        lines, new = _with_stream(text, stream, landing)
        changed = parse_config(new, path)
    except ConfigurationError as error:
        raise UsageError(
            f"{path}: the stream can't be added as text ({error}); it is as it was: {refused}."
        ) from error
    if changed.model_copy(update={"streams": {name: changed.streams[name] for name in old.streams}}) != old:
        raise UsageError(f"{path}: the stream can't be added as text; it is as it was: {refused}.")
    source = changed.streams[stream].source
    folder = source.path if isinstance(source, FilesSource) else path.parent
    return Addition(path, stream, tuple(lines), folder, before, new.encode("utf-8"))


def add_stream(addition: Addition) -> None:
    """Writes the configuration with its stream, and makes the landing folder; if it can't be read then, it is as before.

    Raises:
        UsageError: Somebody has changed the configuration since; it stays as it is now.
        StorageError: The disk refused.
    """
    path = addition.path
    with storage_errors(path):
        if path.read_bytes() != addition.before:
            raise UsageError(f"{path}: somebody has changed it meanwhile; add these lines yourself.")
        _replace(path, addition.after)
    try:
        load_config(path).stream(addition.stream)
        with storage_errors(addition.landing):
            addition.landing.mkdir(parents=True, exist_ok=True)
    except BaseException:
        with storage_errors(path):
            _replace(path, addition.before)
        raise


def _with_stream(text: str, stream: str, landing: str) -> tuple[list[str], str]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += ending
    streams = None
    if isinstance(root, yaml.MappingNode) and not root.flow_style:
        streams = next(((key, value) for key, value in root.value if key.value == "streams"), None)
        if streams is None:
            added = ["streams:", *stream_lines(stream, landing)]
            return added, "".join(lines) + "".join(line + ending for line in added)
    if streams is None:
        raise ConfigurationError("it isn't written with a key a line")
    key, value = streams
    if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
        indent, at = value.value[0][0].start_mark.column, _last_line(value)
    elif isinstance(value, yaml.MappingNode) and not value.value and value.flow_style:
        indent, at = _INDENT, key.start_mark.line
        if value.start_mark.line != at or value.end_mark.line != at:
            raise ConfigurationError("`streams` isn't written with a key a line")
        line = lines[at]
        lines[at] = line[: value.start_mark.column].rstrip() + line[value.end_mark.column :]
    elif (
        isinstance(value, yaml.ScalarNode)
        and not value.value
        and not lines[key.start_mark.line].split("#")[0].rstrip().endswith(("~", "null", "}"))
    ):
        indent, at = _INDENT, key.start_mark.line
    else:
        raise ConfigurationError("`streams` isn't written with a key a line")
    added = stream_lines(stream, landing, indent)
    lines[at + 1 : at + 1] = [line + ending for line in added]
    return added, "".join(lines)


def _last_line(node: yaml.Node) -> int:
    """The line, from 0, on which the last thing in a node ends; comments after it don't belong to it."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return max(_last_line(part) for pair in node.value for part in pair)
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return max(_last_line(part) for part in node.value)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return int(node.end_mark.line) - (node.end_mark.column == 0)
    return int(node.end_mark.line)


def _replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, with the rights that it had; a link stays one."""
    target = path.resolve()
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            os.fchmod(file.fileno(), target.stat().st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    sync(target.parent)
