"""The digest of a table: equal exactly when two tables hold the same rows, in whatever order.

What doesn't live here: keeping a digest up to date without reading the whole table (`kept_digests`), and where digests are
recorded (`record_tables`).

Each row becomes one text (its columns by name; texts with their length before them, everything else ended by a sign that it can't hold, so that
no two rows of a table give the same text), the text an MD5, and the table the sum of those: a sum doesn't know order, unlike an exclusive or it counts repeated rows, and rows
can be taken from it as well as added.
MD5 of a text rather than DuckDB's `hash`, which is some twenty times faster but may differ from version to version: a digest
written today must still be comparable after an upgrade. It guards against mistakes, not against an adversary.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import duckdb

FORMAT = 2
"""Version of how a row becomes a text; a part of every digest, so that sums of two versions are never mixed."""

_WITHOUT_SEMICOLON = re.compile(
    r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT|INTEGER|UINTEGER|DECIMAL\(\d+,\d+\)|DATE|TIMESTAMP( WITH TIME ZONE)?|UUID"
)
"""Types of which no value's text holds a semicolon, or is a single `-`."""


@dataclass(frozen=True)
class TableDigest:
    """What was counted: the number of rows, and the digest as 64 hexadecimal digits."""

    rows: int
    digest: str


@dataclass(frozen=True)
class RowSums:
    """What a set of rows adds up to: how many they are, and the sums of both halves of their MD5."""

    rows: int
    lower: int
    upper: int

    def __add__(self, other: RowSums) -> RowSums:
        return RowSums(self.rows + other.rows, self.lower + other.lower, self.upper + other.upper)

    def __sub__(self, other: RowSums) -> RowSums:
        return RowSums(self.rows - other.rows, self.lower - other.lower, self.upper - other.upper)


def table_digest(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> TableDigest:
    """Compute the digest of one table, by DuckDB and in columns.

    The order of rows and of columns makes no difference; a row more, fewer, twice or with another value does, and so does
    the name of a column. The time zone of the session must be UTC.

    Args:
        connection: A connection to the database that holds the table.
        schema: Schema of the table.
        table: Name of the table.
    """
    columns = table_columns(connection, schema, table)
    return digest_of(columns, row_sums(connection, f"{quoted(schema)}.{quoted(table)}", columns))


def table_columns(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> dict[str, str]:
    """Type of each column of a table or view, by name and in order of the names."""
    found = connection.execute(
        "select column_name, data_type from duckdb_columns() "
        "where database_name = current_database() and schema_name = ? and table_name = ? order by column_name",
        [schema, table],
    ).fetchall()
    return dict(found)


def row_sums(
    connection: duckdb.DuckDBPyConnection, relation: str, columns: Mapping[str, str], condition: str = "true"
) -> RowSums:
    """Add up the rows of a relation for which a condition holds.

    Args:
        connection: A connection to the database that holds the relation.
        relation: The relation as SQL.
        columns: Type of each column that counts, in order of their names.
        condition: Of the rows, as SQL.
    """
    # The whole MD5 once, then its halves: `md5_number_lower` and `md5_number_upper` would each compute it, of a text made twice.
    counted = connection.execute(
        f"select count(*), sum((md5 >> 64)::hugeint), sum((md5 & {2**64 - 1}::uhugeint)::hugeint) "
        f"from (select md5_number({row_text(columns)}) as md5 from {relation} where {condition})"
    ).fetchone()
    rows, lower, upper = counted if counted is not None else (0, None, None)
    return RowSums(rows, lower or 0, upper or 0)


def digest_of(columns: Iterable[str], sums: RowSums) -> TableDigest:
    """Make the digest of a table from what its rows add up to; `columns` in order of their names."""
    summary = f"{FORMAT} {list(columns)!r} {sums.rows} {sums.lower} {sums.upper}"
    return TableDigest(rows=sums.rows, digest=hashlib.sha256(summary.encode()).hexdigest())


def row_text(columns: Mapping[str, str]) -> str:
    """The text of a row as SQL, from the types of its columns: no two different rows have the same one."""
    # `||` would copy what there is so far for each column.
    return f"concat({', '.join(_column_text(name, kind) for name, kind in columns.items())})"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _column_text(name: str, kind: str) -> str:
    text = (
        f"{quoted(name)}::varchar"  # unambiguous for nested values too: DuckDB quotes what could be misread
    )
    if kind.startswith("TIMESTAMP") and _WITHOUT_SEMICOLON.fullmatch(kind):
        # Twice as fast as the date's own text; of infinity it is null.
        zone = "z" if "ZONE" in kind else "t"
        return f"coalesce(epoch_us({quoted(name)}) || '{zone}', {text}, '-'), ';'"
    if _WITHOUT_SEMICOLON.fullmatch(kind):
        return f"coalesce({text}, '-'), ';'"
    # What `concat` is given null for is left out.
    return f"case when {quoted(name)} is null then '-' else strlen({text}) || ':' end, {text}"
