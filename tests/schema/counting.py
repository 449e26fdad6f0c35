"""A second opinion on what payloads say: Python's own JSON parser, one event at a time."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORMATS = {
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "date": re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"),
    "timestamp": re.compile(
        r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
        r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    ),
}


@dataclass
class Counts:
    """Events by state, by path, and by path and kind."""

    states: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Object(list[tuple[str, Any]]):
    """The pairs of an object, duplicates among them."""


def _refuse(text: str) -> Any:
    raise ValueError(text)


def counted(values: Iterable[bytes]) -> Counts:
    """What values say."""
    counts = Counts()
    for value in values:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            counts.states["not_utf8"] += 1
            continue
        try:
            document = json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse)
        except ValueError:
            counts.states["not_json"] += 1
            continue
        counts.states["json"] += 1
        found = set(_walk("$", document))
        counts.paths.update({path for path, _ in found})
        counts.kinds.update(found)
    return counts


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    yield path, _kind(value)
    if isinstance(value, _Object):
        for key, child in value:
            name = (
                key if re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", key) else json.dumps(key, ensure_ascii=False)
            )
            yield from _walk(name if path == "$" else f"{path}.{name}", child)
    elif isinstance(value, list):
        for child in value:
            yield from _walk("[]" if path == "$" else f"{path}[]", child)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return next((kind for kind, pattern in _FORMATS.items() if pattern.fullmatch(value)), "string")
    if isinstance(value, int) and not isinstance(value, bool):
        return "integer" if -(2**63) <= value < 2**64 else "number"
    names = {bool: "boolean", float: "number", _Object: "object", list: "list", type(None): "null"}
    return names[type(value)]
