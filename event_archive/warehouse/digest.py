"""The digest of a table: equal exactly when two tables hold the same rows, in whatever order.

What doesn't live here: where digests are recorded (`publish`).

Each row becomes one text (its columns by name, each with its length before it, so that no two rows give the same text), the
text an MD5, and the table the sum of those: a sum doesn't know order, and unlike an exclusive or it counts repeated rows.
MD5 of a text rather than DuckDB's `hash`, which is some twenty times faster but may differ from version to version: a digest
written today must still be comparable after an upgrade. It guards against mistakes, not against an adversary.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class TableDigest:
    """What was counted: the number of rows, and the digest as 64 hexadecimal digits."""

    rows: int
    digest: str


def table_digest(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> TableDigest:
    """Compute the digest of one table, by DuckDB and in columns.

    The order of rows and of columns makes no difference; a row more, fewer, twice or with another value does, and so does
    the name of a column. The time zone of the session must be UTC.

    Args:
        connection: A connection to the database that holds the table.
        schema: Schema of the table.
        table: Name of the table.
    """
    found = connection.execute(
        "select column_name from duckdb_columns() "
        "where database_name = current_database() and schema_name = ? and table_name = ? order by column_name",
        [schema, table],
    ).fetchall()
    columns = [name for (name,) in found]
    row_text = " || ".join(map(_column_text, columns))
    counted = connection.execute(
        "select count(*), sum(md5_number_lower(row_text)::hugeint), sum(md5_number_upper(row_text)::hugeint) "
        f"from (select {row_text} as row_text from {quoted(schema)}.{quoted(table)})"
    ).fetchone()
    rows, lower, upper = counted if counted is not None else (0, None, None)
    summary = f"{columns!r} {rows} {lower or 0} {upper or 0}"
    return TableDigest(rows=rows, digest=hashlib.sha256(summary.encode()).hexdigest())


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _column_text(name: str) -> str:
    text = (
        f"{quoted(name)}::varchar"  # unambiguous for nested values too: DuckDB quotes what could be misread
    )
    return f"case when {quoted(name)} is null then '-' else strlen({text})::varchar || ':' || {text} end"
