"""What differs between two builds, mart by mart.

What doesn't live here: which rows of one mart differ (`diff_rows`), and how it is shown (`event_archive.cli.builds_rendering`).

Marts of which both builds have recorded the same digest aren't read, unless a file may be written: then somebody may have.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from event_archive.errors import StorageError, UsageError
from event_archive.sql.views import quote_text
from event_archive.warehouse.diff_rows import BASE, WORK, RowsDiff, attached, compare_rows
from event_archive.warehouse.digest import quoted
from event_archive.warehouse.kept_digests import RECORDS
from event_archive.warehouse.record import BuildUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLES = 5
"""How many rows of each kind are given by default."""

_ANY_WRITE = 0o222


@dataclass(frozen=True)
class MartDiff:
    """What differs in one mart from build A to build B.

    Attributes:
        mart: Its name.
        is_in_a: Whether A has it.
        is_in_b: Whether B has it.
        rows_a: How many rows it has in A.
        rows_b: And in B.
        columns_added: Type of each column that only B has.
        columns_removed: Type of each column that only A has.
        columns_retyped: Types in A and in B of each column where they differ.
        rows: What differs in the rows, over the columns that both have; None if they are the same, or only one has the mart.
    """

    mart: str
    is_in_a: bool
    is_in_b: bool
    rows_a: int | None
    rows_b: int | None
    columns_added: dict[str, str] = field(default_factory=dict)
    columns_removed: dict[str, str] = field(default_factory=dict)
    columns_retyped: dict[str, tuple[str, str]] = field(default_factory=dict)
    rows: RowsDiff | None = None

    @property
    def has_same_columns(self) -> bool:
        """Whether the columns and their types are the same."""
        return not (self.columns_added or self.columns_removed or self.columns_retyped)

    @property
    def is_equal(self) -> bool:
        """Whether both have the mart with the same columns and rows."""
        return self.is_in_a and self.is_in_b and self.has_same_columns and self.rows is None


@dataclass(frozen=True)
class BuildDiff:
    """What differs from build A to build B: what B would change if it took A's place.

    Attributes:
        a: The build A, as it names itself, or its file.
        b: And B.
        marts: Every mart that either has, by name; also those that are equal.
    """

    a: str
    b: str
    marts: tuple[MartDiff, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both have the same marts with the same rows."""
        return all(mart.is_equal for mart in self.marts)


@dataclass(frozen=True)
class _Mart:
    """A mart as one of the files has it; rows and digest only as far as they are recorded and to be trusted."""

    columns: dict[str, str]
    digest: str | None
    rows: int | None
    grain: tuple[str, ...]


def diff_builds(
    a: Path,
    b: Path,
    *,
    mart: str | None = None,
    samples: int = SAMPLES,
    grains: Mapping[str, Sequence[str]] | None = None,
    temporary: Path | None = None,
    limits: Mapping[str, str] | None = None,
) -> BuildDiff:
    """Compare two builds.

    Nothing is held in Python but counts and samples; DuckDB does the rest, and spills what is large.

    Args:
        a: File of the build that is compared with, say the published one.
        b: File of the build that would take its place.
        mart: Compare only this one.
        samples: How many added, removed and changed rows are given of each mart.
        grains: By mart, the columns that tell its rows apart, where the builds don't say it.
        temporary: A folder for what is spilled; by default the system's.
        limits: Settings of DuckDB that bound what it takes of memory, disk and cores.

    Raises:
        UsageError: Neither has the mart.
        BuildUnreadable: A file is no readable database.
        MartUnreadable: A view reads what is not in its file.
        StorageError: There is no room to spill.
    """
    a, b = a.resolve(), b.resolve()  # another build may be published meanwhile
    try:
        with (
            tempfile.TemporaryDirectory(prefix="event-archive-diff-", dir=temporary) as folder,
            closing(
                duckdb.connect(str(Path(folder) / f"{WORK}.duckdb"), config=dict(limits or {}))
            ) as connection,
        ):
            connection.execute("set timezone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute(f"set temp_directory = {quote_text(str(Path(folder) / 'spilled'))}")
            (name_a, marts_a), (name_b, marts_b) = _read_marts(connection, a), _read_marts(connection, b)
            names = sorted({*marts_a, *marts_b})
            if mart is not None and mart not in names:
                raise UsageError(
                    f"Neither build has a mart {mart!r}; there are: {', '.join(names) or 'none'}."
                )
            marts = []
            for name in names if mart is None else [mart]:
                in_a, in_b = marts_a.get(name), marts_b.get(name)
                if in_a is not None and in_b is not None:
                    known = tuple((grains or {}).get(name, ()))
                    both = (in_a, in_b)
                    marts.append(_compare(connection, (a, b), name, both, grain=known, samples=samples))
                else:
                    marts.append(
                        MartDiff(
                            mart=name,
                            is_in_a=in_a is not None,
                            is_in_b=in_b is not None,
                            rows_a=None if in_a is None else _rows(connection, a, name, in_a),
                            rows_b=None if in_b is None else _rows(connection, b, name, in_b),
                        )
                    )
    except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
        raise StorageError(
            f"The builds could not be compared ({error}); make room on the disk, or set TMPDIR to a folder that has some."
        ) from error
    except duckdb.Error as error:
        raise BuildUnreadable(
            f"{a} and {b} could not be compared ({error}); one of them is damaged. A rebuild makes every table again."
        ) from error
    return BuildDiff(name_a, name_b, tuple(marts))


def _compare(
    connection: duckdb.DuckDBPyConnection,
    files: tuple[Path, Path],
    name: str,
    marts: tuple[_Mart, _Mart],
    *,
    grain: tuple[str, ...],
    samples: int,
) -> MartDiff:
    a, b = marts
    shared = sorted(a.columns.keys() & b.columns.keys())
    rows_a, rows_b, rows = a.rows, b.rows, None
    is_known_equal = a.digest is not None and a.digest == b.digest  # of the texts: types may differ
    if not is_known_equal and shared:
        grain = grain or b.grain or a.grain
        # Of a key of which a column is gone, the rest doesn't tell rows apart.
        key = grain if set(grain) <= set(shared) else ()
        compared = compare_rows(connection, files, name, shared, key=key, samples=samples)
        rows_a, rows_b, rows = compared.rows_a, compared.rows_b, compared.difference
    elif not is_known_equal:
        rows_a, rows_b = (
            _rows(connection, file, name, mart) for file, mart in zip(files, marts, strict=True)
        )
    return MartDiff(
        mart=name,
        is_in_a=True,
        is_in_b=True,
        rows_a=rows_a,
        rows_b=rows_b,
        columns_added={column: kind for column, kind in b.columns.items() if column not in a.columns},
        columns_removed={column: kind for column, kind in a.columns.items() if column not in b.columns},
        columns_retyped={
            column: (a.columns[column], b.columns[column])
            for column in shared
            if a.columns[column] != b.columns[column]
        },
        rows=rows,
    )


def _read_marts(connection: duckdb.DuckDBPyConnection, file: Path) -> tuple[str, dict[str, _Mart]]:
    """What a file calls itself, and the marts that it has, by name."""
    try:
        is_finished = not file.stat().st_mode & _ANY_WRITE
        with attached(connection, file):
            return _marts(connection, file, is_finished=is_finished)
    except FileNotFoundError as error:
        raise UsageError(f"{file}: there is no such file.") from error
    except duckdb.Error as error:
        raise BuildUnreadable(
            f"{file} is no readable build of a warehouse ({error}); name another one."
        ) from error


def _marts(
    connection: duckdb.DuckDBPyConnection, file: Path, *, is_finished: bool
) -> tuple[str, dict[str, _Mart]]:
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(
        "select table_name, column_name, data_type from duckdb_columns() "
        "where database_name = ? and schema_name = 'main' and not internal order by table_name, column_name",
        [BASE],
    ).fetchall():
        tables.setdefault(table, {})[column] = kind
    name = str(file)
    if "build_id" in tables.get("build_info", {}):
        found = connection.execute(f"select build_id from {BASE}.main.build_info").fetchone()
        name = str(found[0]) if found and is_finished else name
    recorded: dict[str, tuple[str, int, list[str]]] = {}
    if {"mart", "digest", "rows", "grain"} <= tables.get("build_marts", {}).keys():
        rows = connection.execute(f"select mart, digest, rows, grain from {BASE}.main.build_marts").fetchall()
        recorded = {mart: (digest, count, grain) for mart, digest, count, grain in rows}
    marts = {}
    for table, columns in tables.items():
        if table in RECORDS:
            continue
        digest, count, grain = recorded.get(table, (None, None, []))
        marts[table] = _Mart(
            columns=columns,
            digest=digest if is_finished else None,
            rows=count if is_finished else None,
            grain=tuple(grain or ()) if set(grain or ()) <= columns.keys() else (),
        )
    return name, marts


def _rows(connection: duckdb.DuckDBPyConnection, file: Path, name: str, mart: _Mart) -> int:
    if mart.rows is not None:
        return mart.rows
    with attached(connection, file):
        found = connection.execute(f"select count(*) from {BASE}.main.{quoted(name)}").fetchone()
    return int(found[0]) if found else 0
