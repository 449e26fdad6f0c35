r"""SQL expressions over JSON values: of which kind a value is, and how the path to it is written.

What doesn't live here: queries that use them (`scan`).
"""

from __future__ import annotations

import re

from event_archive.schema.model import KINDS
from event_archive.sql.views import quote_text

_PLAIN_KEY = "[A-Za-z_][A-Za-z0-9_-]*"
LONGEST_KEY = 100
"""Of a longer key only so much is kept, and its MD5: it is counted, but can't be asked for."""
_HEXADECIMAL = "[0-9a-fA-F]"
# By kind: the length that JSON text of a string must have at least and at most, quotes included, and what it must be. Lengths are
# compared first, as they cost next to nothing.
_FORMATS = {
    "uuid": (38, 38, f'"{_HEXADECIMAL}{{8}}(-{_HEXADECIMAL}{{4}}){{3}}-{_HEXADECIMAL}{{12}}"'),
    "date": (12, 12, r'"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"'),
    "timestamp": (
        22,
        50,
        r'"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"',
    ),
}


def bit(kind: str) -> int:
    """The bit of a kind in a mask."""
    return 1 << KINDS.index(kind)


def kind_bit(json_type: str, value: str) -> str:
    """The SQL expression for the bit of a value's kind.

    Args:
        json_type: SQL expression for what DuckDB calls its type.
        value: SQL expression for its JSON text.
    """
    formats = " ".join(
        f"when strlen({value}) between {least} and {most} and regexp_full_match({value}, {quote_text(pattern)}) then {bit(kind)}"
        for kind, (least, most, pattern) in _FORMATS.items()
    )
    return (
        f"case {json_type} when 'VARCHAR' then case {formats} else {bit('string')} end "
        f"when 'UBIGINT' then {bit('integer')} when 'BIGINT' then {bit('integer')} when 'NULL' then {bit('null')} "
        f"when 'BOOLEAN' then {bit('boolean')} when 'OBJECT' then {bit('object')} when 'ARRAY' then {bit('list')} "
        f"else {bit('number')} end"
    )


def child_path(parent: str, *, in_list: str, is_other: str, key: str) -> str:
    """The SQL expression for the path of a child.

    A key that is longer than a hundred characters is cut, and told apart from others by its MD5.

    Args:
        parent: SQL expression for the path of what it stands in.
        in_list: SQL expression: whether that is a list.
        is_other: SQL expression: whether the key is one of too many.
        key: SQL expression for its key.
    """
    short = (
        f"case when length({key}) > {LONGEST_KEY} "
        f"then left({key}, {LONGEST_KEY}) || '…' || left(md5({key}), 8) else {key} end"
    )
    name = (
        f"case when {is_other} then '*' when regexp_full_match({short}, {quote_text(_PLAIN_KEY)}) then {short} "
        f"else cast(to_json({short}) as varchar) end"
    )
    prefix = f"case when {parent} = '$' then '' else {parent} end"
    dotted = f"case when {parent} = '$' then '' else {parent} || '.' end"
    return f"case when {in_list} then {prefix} || '[]' else {dotted} || {name} end"


def json_path(keys: tuple[str | None, ...]) -> str:
    """The path as DuckDB's JSON functions take it, without `$.` at its start; each name quoted unless it is plain.

    Raises:
        ValueError: A step is no name (elements of lists and objects with many keys have no one path), or one that DuckDB can't be given: the
            empty one, and `*`, which it takes for any key even in quotes.
    """
    names = []
    for key in keys:
        if key is None:
            raise ValueError("a list's elements have no path of their own")
        if key in ("", "*"):
            raise ValueError(f"a key that is {key!r} can't be asked for")
        plain = re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key) is not None
        names.append(key if plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return ".".join(names)


def keys_of(path: str) -> tuple[str | None, ...]:
    """The steps of a path that is written as in `PathFacts`.

    Raises:
        ValueError: It is no such path.
    """
    import json

    step = re.compile(
        r'(?P<list>\[\])|(?P<dot>\.)?(?:(?P<plain>[A-Za-z_][A-Za-z0-9_-]*)|(?P<many>\*)|(?P<quoted>"(?:[^"\\]|\\.)*"))'
    )
    keys: list[str | None] = []
    at = 0
    if path == "$":
        return ()
    while at < len(path):
        match = step.match(path, at)
        if match is None or (match["list"] is None and (match["dot"] is None) != (at == 0)):
            raise ValueError(
                f"{path!r} is no path: write a.b, with names other than letters and digits in double quotes"
            )
        if match["plain"] is not None:
            keys.append(match["plain"])
        elif match["quoted"] is not None:
            keys.append(str(json.loads(match["quoted"])))
        else:
            keys.append(None)
        at = match.end()
    if not keys:
        raise ValueError("an empty path names nothing")
    return tuple(keys)
