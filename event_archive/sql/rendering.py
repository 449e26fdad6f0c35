"""How a value of each SQL type is written in JSON, in CSV and in a table, as SQL expressions that give text.

The text is made by DuckDB itself: in parallel, a vector at a time, without a Python object per value, and with DuckDB's own exact casts.

| type                      | JSON                                                 | CSV                            |
|---------------------------|------------------------------------------------------|--------------------------------|
| null                      | null                                                 | nothing (an empty text is "")  |
| integer, decimal          | number, all digits; a decimal with its scale: 1.50   | the same                       |
| float, double             | shortest number that reads back the same; "NaN", "Infinity", "-Infinity"   | the same, unquoted |
| text, enum                | string                                               | text                           |
| JSON                      | itself, line breaks as spaces (a string where it is none by RFC 8259) | its text       |
| blob                      | a string of its UTF-8; else {"base64": "…"}          | its UTF-8; base64:… where it is none, or itself begins so |
| timestamp                 | "2013-01-01T10:15:00.25"                             | the same                       |
| timestamp with time zone  | "2013-01-01T10:15:00.25+00:00", always in UTC        | the same                       |
| date, time, interval, UUID, bit | string, as DuckDB writes it                    | the same                       |
| list, array, row(…)       | array                                                | the JSON                       |
| struct                    | object                                               | the JSON                       |
| map                       | array of {"key": …, "value": …}                      | the JSON                       |
| any other                 | string, as DuckDB writes it                          | the same                       |

Years before 1 are written as DuckDB does. What doesn't live here: running the query and writing the text (`output`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from event_archive.sql.views import quote_text, text_of_utf8, text_with_lax_json

if TYPE_CHECKING:
    import duckdb

_NUMBERS = frozenset(
    {
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "uhugeint",
    }
    | {"bignum", "varint", "decimal", "boolean"}
)
_FLOATS = frozenset({"float", "double"})
_TIMESTAMPS = frozenset({"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"})
_NESTED = frozenset({"list", "array", "struct", "tuple", "map"})


def is_number(kind: duckdb.sqltypes.DuckDBPyType) -> bool:
    """Say whether values of this type are numbers, which tables align to the right.

    Args:
        kind: A DuckDB type.

    Returns:
        True for integers, decimals and floats.
    """
    return kind.id in _FLOATS or (kind.id in _NUMBERS and kind.id != "boolean")


def json_text(value: str, kind: duckdb.sqltypes.DuckDBPyType, depth: int = 0) -> str:
    """Give the SQL expression for a value's JSON text.

    Args:
        value: A short SQL expression (a column, a field); it may occur several times.
        kind: Its type.
        depth: How many lambdas it stands in.

    Returns:
        An SQL expression of type varchar, SQL null for null.
    """
    if kind.id in _NUMBERS:
        return f"{value}::varchar"
    if kind.id in _FLOATS:
        return (
            f"case when isfinite({value}) then {value}::varchar else '\"' || {_not_finite(value)} || '\"' end"
        )
    if str(kind) == "JSON":
        text = f"{value}::varchar"
        # A line break in it can only be space between its parts; without them, a row stays on its line.
        one_line = f"replace(replace({text}, chr(10), ' '), chr(13), ' ')"
        return f"case when {text_with_lax_json(text)} then to_json({text})::varchar else {one_line} end"
    if kind.id == "blob":
        text, is_text = text_of_utf8(value)
        return f"case when {is_text} then to_json({text})::varchar else '{{\"base64\":\"' || base64({value}) || '\"}}' end"
    if kind.id in _NESTED:
        return _nested_json(value, kind, depth)
    return f"to_json({_plain_text(value, kind)})::varchar"


def csv_text(value: str, kind: duckdb.sqltypes.DuckDBPyType) -> str:
    """Give the SQL expression for a value's text in CSV, before quoting.

    Args:
        value: A short SQL expression; it may occur several times.
        kind: Its type.

    Returns:
        An SQL expression of type varchar, SQL null for null.
    """
    if kind.id in _FLOATS:
        return f"case when isfinite({value}) then {value}::varchar else {_not_finite(value)} end"
    if kind.id == "blob":
        text, is_text = text_of_utf8(value)
        return f"case when {is_text} and not starts_with({text}, 'base64:') then {text} else 'base64:' || base64({value}) end"
    if kind.id in _NESTED:
        return json_text(value, kind)
    return _plain_text(value, kind)


def needs_no_quotes(kind: duckdb.sqltypes.DuckDBPyType) -> bool:
    """Say whether the CSV text of this type can never be empty or hold a comma, a quote or a line break.

    Args:
        kind: A DuckDB type.

    Returns:
        True for numbers and timestamps.
    """
    return kind.id in _NUMBERS | _FLOATS | _TIMESTAMPS or kind.id in {
        "timestamp with time zone",
        "date",
        "uuid",
    }


def table_text(value: str, kind: duckdb.sqltypes.DuckDBPyType, characters: int) -> str:
    """Give the SQL expression for the beginning of a value's text, for a person to read.

    Args:
        value: A short SQL expression; it may occur several times.
        kind: Its type.
        characters: How many characters to give at most.

    Returns:
        An SQL expression of type varchar, SQL null for null.
    """
    if kind.id == "blob":
        text, is_text = text_of_utf8(value)
        return f"case when {is_text} then left({text}, {characters}) else left({value}::varchar, {characters}) end"
    return f"left({value}::varchar, {characters})"


def _not_finite(value: str) -> str:
    return f"case when isnan({value}) then 'NaN' when {value} > 0 then 'Infinity' when {value} < 0 then '-Infinity' end"


def _plain_text(value: str, kind: duckdb.sqltypes.DuckDBPyType) -> str:
    """Give the SQL expression for the text of a value that is written the same in JSON (as string) and CSV."""
    text = f"{value}::varchar"
    if kind.id in _TIMESTAMPS:
        return f"case when {text} like '%BC%' then {text} else replace({text}, ' ', 'T') end"
    if kind.id == "timestamp with time zone":
        # The connection's time zone is UTC, so that the text ends in +00. Infinity has no offset.
        return f"case when {text} like '%BC%' or not isfinite({value}) then {text} else replace({text}, ' ', 'T') || ':00' end"
    return text


def _nested_json(value: str, kind: duckdb.sqltypes.DuckDBPyType, depth: int) -> str:
    """Give the SQL expression for the JSON text of a value that holds others."""
    element = f"element{depth}"
    children = cast("list[tuple[str, duckdb.sqltypes.DuckDBPyType]]", kind.children)
    if kind.id in {"list", "array"}:
        item = f"coalesce({json_text(element, children[0][1], depth + 1)}, 'null')"
        return f"'[' || {_joined(value, element, item)} || ']'"
    if kind.id == "map":
        key = json_text(f"{element}.key", children[0][1], depth + 1)
        content = json_text(f"{element}.value", children[1][1], depth + 1)
        item = f"""concat('{{"key":', {key}, ',"value":', coalesce({content}, 'null'), '}}')"""
        return f"'[' || {_joined(f'map_entries({value})', element, item)} || ']'"
    unnamed = all(name == "" for name, _ in children)
    fields = [
        (
            "" if unnamed else json.dumps(name, ensure_ascii=False) + ":",
            f"struct_extract_at({value}, {position})",
            child,
        )
        for position, (name, child) in enumerate(children, start=1)
    ]
    parts = [
        f"{quote_text(name)}, coalesce({json_text(field, child, depth)}, 'null')"
        for name, field, child in fields
    ]
    opening, closing = ("[", "]") if unnamed else ("{", "}")
    content = ", ',', ".join(parts)
    return f"case when {value} is not null then concat('{opening}', {content}, '{closing}') end"


def _joined(values: str, element: str, item: str) -> str:
    """Give the SQL expression for the texts of a list's items with commas between; of an empty list: an empty text."""
    return f"case when {values} is not null then coalesce(array_to_string(list_transform({values}, lambda {element}: {item}), ','), '') end"
