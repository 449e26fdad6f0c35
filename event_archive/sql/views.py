r"""The SQL that shows Parquet files of the archive as one relation, and the rule by which a value is JSON.

What doesn't live here: which files belong to a stream (`event_archive.archive`), and who may query them (`sandbox`).

The rule for JSON is RFC 8259. DuckDB parses with yyjson, told to be lax in two ways: a trailing comma in an array
or object, and NaN and Infinity as numbers, in any case and with a minus. Everything else that it takes is JSON. So a value is
JSON when DuckDB takes it and neither occurs outside of its strings. Looking outside of strings is slow, hence two steps:
a cheap search for something that looks like one of the two, strings included; only what looks suspicious is searched with
its strings cut out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The envelope, in the order and with the types in which analysts and dbt see it.
ENVELOPE_TYPES = {
    "source_id": "varchar",
    "source_partition": "integer",
    "source_offset": "bigint",
    "event_time": "timestamptz",
    "timestamp_ms": "bigint",
    "timestamp_type": "varchar",
    "key": "blob",
    "value": "blob",
    "headers": 'struct("key" varchar, "value" blob)[]',
    "ingested_at": "timestamptz",
    "ingest_date": "date",
    "commit_version": "bigint",
}

# Four searches and not one: each begins with a fixed character or is anchored, which lets RE2 skip ahead (measured: one
# alternation takes about twice as long).
_NOT_A_NUMBER = r"-?(?:[nN][aA][nN]|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)(?:[,\]}\s]|$)"
_SUSPICIOUS = (
    rf",\s*(?:[\]}}]|{_NOT_A_NUMBER})",
    rf":\s*{_NOT_A_NUMBER}",
    rf"\[\s*{_NOT_A_NUMBER}",
    rf"^\s*{_NOT_A_NUMBER}",
)
_STRINGS = r'"(?:[^"\\]|\\.)*"'
# Outside of strings, JSON has letters only in true, false, null and exponents: an i, or an n before an a, is Infinity or NaN.
_LAX = r",\s*[\]}]|[nN][aA]|[iI]"


def quote_text(text: str) -> str:
    """Write a text as an SQL string literal.

    Args:
        text: Any text without a NUL character.

    Returns:
        The literal, quotes included.
    """
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Write a name as a quoted SQL identifier.

    Args:
        name: Any text without a NUL character.

    Returns:
        The identifier, quotes included.
    """
    return '"' + name.replace('"', '""') + '"'


def exact_path(path: str) -> str:
    r"""Write a path so that DuckDB takes it for that file alone and never for a pattern.

    Args:
        path: Absolute path of a local file.

    Returns:
        The path, with the characters `*`, `?` and `[` as one-character classes: `[*]`.

    Raises:
        UsageError: The path is relative, or DuckDB has no way to name it (a NUL, or a backslash together with `*`, `?` or `[`).
    """
    if not path.startswith("/"):
        raise UsageError(f"The path {path!r} is relative; a query needs the absolute path of each file.")
    if "\0" in path:
        raise UsageError(f"The path {path!r} holds a NUL character, which no file can have.")
    escaped = "".join(f"[{character}]" if character in "*?[" else character for character in path)
    if escaped != path and "\\" in path:
        raise UsageError(
            f"The path {path!r} holds a backslash beside one of the characters * ? [, and DuckDB can't open such a file; "
            "move the archive to a folder with a plainer name."
        )
    return escaped


def json_or_null(column: str) -> str:
    """Give the SQL expression for a blob as JSON, or null where it is none by RFC 8259.

    Null stays null; bytes that are no UTF-8, an empty value and text that is no JSON become null. It never raises an error, whatever the
    bytes are. The JSON keeps the exact text, numbers of any size included.

    Args:
        column: An SQL expression of type blob; it occurs several times in the result, so it should be a plain column.

    Returns:
        An SQL expression of type JSON. With a parameter's name as `column` it is the body of a macro.
    """
    text, is_text = text_of_utf8(column)
    return (
        f"try_cast(case when not ({is_text}) or {text_with_lax_json(text)} then null else {text} end as json)"
    )


def text_of_utf8(column: str) -> tuple[str, str]:
    """Give the SQL expressions for a blob's text and for whether it is one.

    Args:
        column: An SQL expression of type blob; it occurs several times in the results.

    Returns:
        The text, without the bytes that are no UTF-8; and a boolean, true where there are none. Both are null for null.
    """
    # decode leaves out what is no UTF-8, and then the length shows it. Not TRY: of an expression that occurs several times, DuckDB 2.0
    # takes decode out of its TRY, so that the query ends in an error; and 1.5 fails on any TRY in a GROUP BY.
    text = f"decode({column}, 'ignore')"
    return text, f"strlen({text}) = octet_length({column})"


def text_with_lax_json(text: str) -> str:
    """Give the SQL condition that text which DuckDB takes for JSON is none by RFC 8259.

    Args:
        text: An SQL expression of type varchar; it occurs several times in the result.

    Returns:
        An SQL expression of type boolean. It says nothing about text that DuckDB doesn't take either.
    """
    suspicious = " or ".join(f"regexp_matches({text}, {quote_text(pattern)})" for pattern in _SUSPICIOUS)
    without_strings = f"""regexp_replace({text}, {quote_text(_STRINGS)}, '""', 'gs')"""
    return f"(({suspicious}) and regexp_matches({without_strings}, {quote_text(_LAX)}))"


def archive_select(files: Sequence[str], *, with_payload: bool) -> str:
    """Give a SELECT over exactly these Parquet files of a stream.

    Args:
        files: Absolute paths; each file has the columns of the envelope, `ingest_date` included.
        with_payload: Whether to add `payload`: the value as JSON, or null where it is none. It costs nothing unless it is selected.

    Returns:
        A SELECT that yields the columns of the envelope in their order. Without files: the same columns and types, no row.

    Raises:
        UsageError: A path that can't be handed to DuckDB; see `exact_path`.
    """
    if files:
        columns = ", ".join(quote_name(name) for name in ENVELOPE_TYPES)
        paths = ", ".join(quote_text(exact_path(path)) for path in files)
        # The folders are named ingest_date=…, but the column is in the files: theirs is the truth.
        source = f"from read_parquet([{paths}], hive_partitioning = false)"
    else:
        columns = ", ".join(f"null::{kind} as {quote_name(name)}" for name, kind in ENVELOPE_TYPES.items())
        source = "where false"
    payload = ""
    if with_payload:
        payload = f", {json_or_null('value')} as payload" if files else ", null::json as payload"
    return f"select {columns}{payload} {source}"
