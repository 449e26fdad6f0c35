"""Which rows of one mart differ between two builds: added, removed, changed, how many, in which columns, and some of each.

What doesn't live here: which marts are compared at all (`diff`).

Rows are compared as their texts (`digest.row_text`). First each side's rows are counted by the MD5 of that text; a row that
occurs twice counts twice. Then only the rows whose counts differ are fetched, and those that have the same key on
both sides are one changed row each. Each side is read under the name by which its views know their file, one after the other.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from event_archive.sql.views import quote_text
from event_archive.warehouse.digest import quoted, row_text
from event_archive.warehouse.kept_digests import MartUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BASE = "current"
"""The name under which the views of every build were made."""

WORK = "compared"
"""The name of the database that the comparison works in: its file is called so."""

_LONGEST_TEXT = 200
_PAIRED = f"from {WORK}.pairs as pairs join {WORK}.a_rows as a on pairs.a_h = a.h join {WORK}.b_rows as b on pairs.b_h = b.h"


@dataclass(frozen=True)
class ChangedRow:
    """One row that has the same key on both sides, and other values: in each changed column the text before and after."""

    key: dict[str, str | None]
    changed: dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class RowsDiff:
    """What differs in the rows of a mart.

    Attributes:
        key: The columns by which rows were matched; none: a changed row counts as one removed and one added.
        added: How many rows only B has.
        removed: How many rows only A has.
        changed: How many rows have the same key and other values.
        changed_columns: In how many of these each column differs; those in which none does are left out.
        added_samples: Some of the added rows, as texts; long ones are cut.
        removed_samples: Some of the removed rows.
        changed_samples: Some of the changed rows.
    """

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    changed_columns: dict[str, int]
    added_samples: tuple[dict[str, str | None], ...]
    removed_samples: tuple[dict[str, str | None], ...]
    changed_samples: tuple[ChangedRow, ...]


@dataclass(frozen=True)
class Compared:
    """How many rows each side has, and what differs in them; None: nothing."""

    rows_a: int
    rows_b: int
    difference: RowsDiff | None


@contextlib.contextmanager
def attached(connection: duckdb.DuckDBPyConnection, file: Path) -> Iterator[None]:
    """Have a build's file under the name by which its views know it, for a block."""
    connection.execute(f"attach {quote_text(str(file))} as {BASE} (read_only)")
    try:
        connection.execute(f"use {BASE}")
        yield
    finally:
        connection.execute(f"use {WORK}")
        connection.execute(f"detach {BASE}")


@dataclass(frozen=True)
class _Mart:
    """What is compared: a mart's columns, and in the same order the names that their texts have here: none of the mart's own."""

    name: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def texts_query(self) -> str:
        """Its rows as texts."""
        named = zip(self.columns, self.texts, strict=True)
        selected = ", ".join(f"{quoted(column)}::varchar as {text}" for column, text in named)
        return f"select {selected} from {BASE}.main.{quoted(self.name)}"


def compare_rows(
    connection: duckdb.DuckDBPyConnection,
    files: tuple[Path, Path],
    mart: str,
    columns: Sequence[str],
    *,
    key: Sequence[str],
    samples: int,
) -> Compared:
    """Compare the rows of a mart in two builds.

    Args:
        connection: A connection to a database of its own, in a file called as `WORK` says.
        files: The files of A and B.
        mart: The mart; both have it.
        columns: The columns that count; both have them.
        key: Those by which rows are matched; may be none.
        samples: How many rows of each kind are given.

    Raises:
        MartUnreadable: A view reads what is not in its file.
    """
    seen = _Mart(mart, tuple(columns), tuple(f"c{number}" for number in range(len(columns))))
    sides = tuple(zip("ab", files, strict=True))
    try:
        for side, file in sides:
            _count_texts(connection, file, side, seen)
        rows_a, rows_b = (_one(connection, f"select sum(n) from {WORK}.{side}_counts") for side, _ in sides)
        connection.execute(
            f"create or replace table {WORK}.differing as "
            "select h, coalesce(a.n, 0) as in_a, coalesce(b.n, 0) as in_b "
            f"from {WORK}.a_counts as a full join {WORK}.b_counts as b using (h) "
            "where coalesce(a.n, 0) <> coalesce(b.n, 0)"
        )
        if _one(connection, f"select count(*) from {WORK}.differing") == 0:
            return Compared(rows_a, rows_b, None)
        for side, file in sides:
            _fetch_differing(connection, file, side, seen)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise MartUnreadable(
            f"The mart {mart} could not be read ({error}): it is a view that reads what is not in its build's file."
        ) from error
    return Compared(rows_a, rows_b, _difference(connection, seen, key, samples))


def _count_texts(connection: duckdb.DuckDBPyConnection, file: Path, side: str, mart: _Mart) -> None:
    with attached(connection, file):
        connection.execute(
            f"create or replace table {WORK}.{side}_counts as "
            f"select md5_number({row_text(dict.fromkeys(mart.texts, 'VARCHAR'))}) as h, count(*) as n from ({mart.texts_query}) group by h"
        )


def _fetch_differing(connection: duckdb.DuckDBPyConnection, file: Path, side: str, mart: _Mart) -> None:
    """The rows of which this side has more than the other, once each, and how many more."""
    other = "b" if side == "a" else "a"
    kept = ", ".join(f"any_value({text}) as {text}" for text in mart.texts)
    with attached(connection, file):
        connection.execute(
            f"create or replace table {WORK}.{side}_rows as "
            f"select found.h, any_value(in_{side} - in_{other})::bigint as more, {kept} "
            f"from (select *, md5_number({row_text(dict.fromkeys(mart.texts, 'VARCHAR'))}) as h from ({mart.texts_query})) as found "
            f"join {WORK}.differing as differing on found.h = differing.h "
            f"where in_{side} > in_{other} group by found.h"
        )


def _difference(
    connection: duckdb.DuckDBPyConnection, mart: _Mart, key: Sequence[str], samples: int
) -> RowsDiff:
    text_of = dict(zip(mart.columns, mart.texts, strict=True))
    key_texts = [text_of[column] for column in key]
    _pair(connection, key_texts)
    changed = _one(connection, f"select count(*) from {WORK}.pairs")
    only_a, only_b = (_one(connection, f"select sum(more) from {WORK}.{side}_rows") for side in "ab")
    differing = [f"count(*) filter (where a.{text} is distinct from b.{text})" for text in mart.texts]
    found = connection.execute(f"select {', '.join(differing)} {_PAIRED}").fetchone()
    by_column = zip(mart.columns, found or (), strict=True)
    return RowsDiff(
        key=tuple(key),
        added=only_b - changed,
        removed=only_a - changed,
        changed=changed,
        changed_columns={column: count for column, count in by_column if count},
        added_samples=_unpaired(connection, "b", mart, key_texts, samples),
        removed_samples=_unpaired(connection, "a", mart, key_texts, samples),
        changed_samples=_changed(connection, text_of, key, samples),
    )


def _pair(connection: duckdb.DuckDBPyConnection, key_texts: Sequence[str]) -> None:
    """Pair the rows that have a key which exactly one differing row has, on both sides; null is a key like any other."""
    if not key_texts:
        connection.execute(f"create or replace table {WORK}.pairs (a_h uhugeint, b_h uhugeint)")
        return
    names = ", ".join(key_texts)
    ones = {
        side: f"(select {names}, any_value(h) as h from {WORK}.{side}_rows group by {names} having sum(more) = 1)"
        for side in "ab"
    }
    same = " and ".join(f"a.{text} is not distinct from b.{text}" for text in key_texts)
    connection.execute(
        f"create or replace table {WORK}.pairs as select a.h as a_h, b.h as b_h from {ones['a']} as a join {ones['b']} as b on {same}"
    )


def _unpaired(
    connection: duckdb.DuckDBPyConnection, side: str, mart: _Mart, key_texts: Sequence[str], samples: int
) -> tuple[dict[str, str | None], ...]:
    """Some of the rows that only one side has; one of which there are several more is given once."""
    shown = ", ".join(map(_cut, mart.texts))
    order = ", ".join([*key_texts, "h"])
    rows = connection.execute(
        f"select {shown} from {WORK}.{side}_rows anti join {WORK}.pairs as pairs on h = pairs.{side}_h order by {order} limit ?",
        [samples],
    ).fetchall()
    return tuple(dict(zip(mart.columns, row, strict=True)) for row in rows)


def _changed(
    connection: duckdb.DuckDBPyConnection, text_of: dict[str, str], key: Sequence[str], samples: int
) -> tuple[ChangedRow, ...]:
    shown = [
        f"{_cut(f'a.{text}')}, {_cut(f'b.{text}')}, a.{text} is distinct from b.{text}"
        for text in text_of.values()
    ]
    order = ", ".join([*(f"a.{text_of[column]}" for column in key), "a.h"])
    rows = connection.execute(
        f"select {', '.join(shown)} {_PAIRED} order by {order} limit ?", [samples]
    ).fetchall()
    changed = []
    for row in rows:
        found = dict(zip(text_of, zip(row[::3], row[1::3], row[2::3], strict=True), strict=True))
        changed.append(
            ChangedRow(
                key={column: found[column][0] for column in key},
                changed={
                    column: (before, after) for column, (before, after, differs) in found.items() if differs
                },
            )
        )
    return tuple(changed)


def _cut(text: str) -> str:
    return f"case when length({text}) > {_LONGEST_TEXT} then left({text}, {_LONGEST_TEXT}) || '…' else {text} end"


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    found = connection.execute(query).fetchone()
    return int(found[0] or 0) if found else 0
