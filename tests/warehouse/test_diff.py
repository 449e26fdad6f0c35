"""What differs between two builds is found row by row, and nothing else is said to differ."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import UsageError
from event_archive.warehouse import (
    BuildDiff,
    BuildUnreadable,
    MartDiff,
    MartUnreadable,
    diff_builds,
    layout,
    start_build,
)
from event_archive.warehouse.diff_rows import compare_rows
from tests.warehouse.builders import published, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from event_archive.warehouse import BuildRecord
    from event_archive.warehouse.diff_rows import RowsDiff

FARES = (
    "create or replace table fares as select i as fare_id, i % 7 as day, case when i % 5 = 0 then null else 'web' end as channel, "
    "[i, null] as legs, {'amount': i::decimal(18, 2), 'tags': ['a, b']} as price, i::double / 3 as weight from range(50) n(i)"
)


def two_files(folder: Path, a: Sequence[str], b: Sequence[str]) -> tuple[Path, Path]:
    """Two databases that the statements fill."""
    files = folder / "a.duckdb", folder / "b.duckdb"
    for file, statements in zip(files, (a, b), strict=True):
        run(file, *statements)
    return files


def compare(folder: Path, a: Sequence[str], b: Sequence[str], **how: Any) -> MartDiff:
    """What differs in the only mart of two databases."""
    difference = diff_builds(*two_files(folder, a, b), **how)
    (mart,) = difference.marts
    return mart


def of(rows: RowsDiff | None) -> tuple[int, int, int]:
    """How many were added, removed and changed."""
    assert rows is not None
    return rows.added, rows.removed, rows.changed


def file_of(warehouse: Path, build: BuildRecord) -> Path:
    """The file of a build."""
    return layout.build_file(warehouse, build.build_id)


def test_a_changed_row_is_found_with_its_key_its_columns_and_both_values(tmp_path: Path) -> None:
    """One cell of a list, one null that wasn't, one row more and one fewer."""
    changes = [
        "update fares set legs = [3, 4] where fare_id = 3",
        "update fares set channel = 'web', weight = 0 where fare_id = 10",
        "delete from fares where fare_id = 20",
        "insert into fares select * replace (99 as fare_id) from fares where fare_id = 1",
    ]
    mart = compare(tmp_path, [FARES], [FARES, *changes], grains={"fares": ["fare_id"]})
    assert (mart.rows_a, mart.rows_b, mart.has_same_columns, mart.is_equal) == (50, 50, True, False)
    assert of(mart.rows) == (1, 1, 2)
    assert mart.rows is not None
    assert mart.rows.changed_columns == {"channel": 1, "legs": 1, "weight": 1}
    assert [(row.key, row.changed) for row in mart.rows.changed_samples] == [
        (
            {"fare_id": "10"},
            {"channel": (None, "web"), "weight": ("3.3333333333333335", "0.0")},
        ),
        ({"fare_id": "3"}, {"legs": ("[3, NULL]", "[3, 4]")}),
    ]
    assert [row["fare_id"] for row in mart.rows.added_samples] == ["99"]
    assert [row["fare_id"] for row in mart.rows.removed_samples] == ["20"]


@pytest.mark.parametrize("seed", range(12))
def test_counts_agree_with_counting_by_hand(tmp_path: Path, seed: int) -> None:
    """Random rows with nulls, doubles and lists, keys that may be null or there twice: compared in Python as multisets."""
    chance = random.Random(seed)

    def some_rows() -> list[tuple[str | None, str | None, str | None]]:
        keys = [None, *map(str, range(8))]
        return [
            (
                chance.choice(keys),
                chance.choice([None, "", "NULL", "x"]),
                chance.choice([None, "[NULL]", "[a]"]),
            )
            for _ in range(chance.randrange(25))
        ]

    def statements(rows: Sequence[tuple[str | None, str | None, str | None]]) -> list[str]:
        texts = [", ".join("null" if value is None else f"'{value}'" for value in row) for row in rows]
        return [
            "create table seats (flight varchar, seat varchar, tags varchar[])",
            *(f"insert into seats values ({text})" for text in texts),
        ]

    a, b = some_rows(), some_rows()
    mart = compare(tmp_path, statements(a), statements(b), grains={"seats": ["flight"]})
    only_a, only_b = Counter(a) - Counter(b), Counter(b) - Counter(a)
    once = [
        {row[0] for row in only if sum(n for other, n in only.items() if other[0] == row[0]) == 1}
        for only in (only_a, only_b)
    ]
    changed = len(once[0] & once[1])
    assert (mart.rows_a, mart.rows_b) == (len(a), len(b))
    if not only_a and not only_b:
        assert mart.is_equal
    else:
        assert of(mart.rows) == (only_b.total() - changed, only_a.total() - changed, changed)


def test_rows_that_occur_more_than_once_are_counted(tmp_path: Path) -> None:
    """Three of a row against one: two are removed, and one sample shows it."""
    mart = compare(
        tmp_path,
        ["create table seats as select 'a' as seat from range(3)"],
        ["create table seats as select 'a' as seat"],
    )
    assert of(mart.rows) == (0, 2, 0)
    assert mart.rows is not None
    assert mart.rows.removed_samples == ({"seat": "a"},)


def test_without_a_grain_a_changed_row_is_one_removed_and_one_added(tmp_path: Path) -> None:
    """Which rows belong together can't be guessed."""
    mart = compare(tmp_path, [FARES], [FARES, "update fares set day = 9 where fare_id = 3"])
    assert of(mart.rows) == (1, 1, 0)
    assert mart.rows is not None
    assert mart.rows.key == ()


def test_a_grain_of_several_columns_matches_rows_by_all_of_them(tmp_path: Path) -> None:
    """Null is a key like any other."""
    seats = "create table seats as select * from (values (1, 'A', 'free'), (1, null, 'free'), (2, 'A', 'free')) t(flight, seat, state)"
    mart = compare(
        tmp_path,
        [seats],
        [seats, "update seats set state = 'taken' where flight = 1"],
        grains={"seats": ["flight", "seat"]},
    )
    assert of(mart.rows) == (0, 0, 2)
    assert mart.rows is not None
    assert [row.key for row in mart.rows.changed_samples] == [
        {"flight": "1", "seat": "A"},
        {"flight": "1", "seat": None},
    ]


def test_columns_that_differ_are_named_and_the_others_compared(tmp_path: Path) -> None:
    """A column more, one fewer, one of another type; the shared ones tell whether rows differ too."""
    a = "create table seats as select 1 as seat, 2 as row_number, 'x' as old"
    b = "create table seats as select 1::bigint as seat, 3 as row_number, 'y' as \"new, and odd\""
    mart = compare(tmp_path, [a], [b], grains={"seats": ["seat"]})
    assert mart.columns_added == {"new, and odd": "VARCHAR"}
    assert mart.columns_removed == {"old": "VARCHAR"}
    assert mart.columns_retyped == {"seat": ("INTEGER", "BIGINT")}
    assert of(mart.rows) == (0, 0, 1)
    (tmp_path / "again").mkdir()
    alike = compare(tmp_path / "again", [a], [a, "alter table seats add column note varchar"])
    assert alike.rows is None
    assert not alike.is_equal


def test_names_of_marts_and_columns_are_only_names(tmp_path: Path) -> None:
    """Quotes, commas and our own names in them break nothing."""
    table = 'create table "a ""b"", c" as select 1 as "h", 2 as "c0", 3 as "x"" y", 4 as "more"'
    mart = compare(tmp_path, [table], [table, 'update "a ""b"", c" set "c0" = 5'], grains={'a "b", c': ["h"]})
    assert mart.mart == 'a "b", c'
    assert mart.rows is not None
    assert mart.rows.changed_columns == {"c0": 1}


def test_marts_of_only_one_build_are_named(tmp_path: Path) -> None:
    """New and gone, with their rows."""
    files = two_files(
        tmp_path,
        ["create table carts as select 1 as cart"],
        ["create table seats as select range as seat from range(3)"],
    )
    gone, new = diff_builds(*files).marts
    assert (gone.mart, gone.is_in_a, gone.is_in_b, gone.rows_a, gone.rows_b) == (
        "carts",
        True,
        False,
        1,
        None,
    )
    assert (new.mart, new.is_in_a, new.is_in_b, new.rows_a, new.rows_b) == ("seats", False, True, None, 3)
    assert not gone.is_equal
    assert not new.is_equal


def test_views_are_compared_like_tables(tmp_path: Path) -> None:
    """Also when they name the database by which they were made, and when the staging table behind them differs."""
    statements = [
        "create schema staging",
        "create table staging.seats as select range as seat from range(10)",
        "create view one as select seat from current.staging.seats",
        "create view other as select seat from staging.seats where seat > 4",
    ]
    with (
        start_build(tmp_path / "x", mode="rebuild", streams={}) as one,
        start_build(tmp_path / "y", mode="rebuild", streams={}) as other,
    ):
        run(one.file, *statements)
        run(other.file, *statements, "update staging.seats set seat = 11 where seat = 2")
        difference = diff_builds(one.file, other.file)
    assert {mart.mart: mart.is_equal for mart in difference.marts} == {"one": False, "other": False}
    assert [of(mart.rows) for mart in difference.marts] == [(1, 1, 0), (1, 0, 0)]


def test_a_view_over_something_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Such a file was never published, but may be compared."""
    broken = ["create table gone as select 1 as seat", "create view seats as from gone", "drop table gone"]
    files = two_files(tmp_path, ["create table seats as select 1 as seat"], broken)
    with pytest.raises(MartUnreadable, match="seats"):
        diff_builds(*files)


def test_marts_with_the_same_digest_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two published builds: only the mart that differs is compared, and rows are known for all."""
    tables = [FARES, "create or replace table seats as select range as seat from range(10)"]
    first = published(tmp_path, *tables)
    second = published(tmp_path, "delete from seats where seat = 3", grains={"seats": ["seat"]})
    compared: list[str] = []

    def noting(*arguments: Any, **named: Any) -> Any:
        compared.append(arguments[2])
        return compare_rows(*arguments, **named)

    monkeypatch.setattr("event_archive.warehouse.diff.compare_rows", noting)
    difference = diff_builds(file_of(tmp_path, first), file_of(tmp_path, second))
    assert compared == ["seats"]
    assert (difference.a, difference.b) == (first.build_id, second.build_id)
    assert {mart.mart: (mart.rows_a, mart.rows_b) for mart in difference.marts} == {
        "fares": (50, 50),
        "seats": (10, 9),
    }
    (seats,) = (mart.rows for mart in difference.marts if mart.rows is not None)
    assert seats.key == ("seat",)


def test_another_type_is_a_difference_although_the_digest_is_the_same(tmp_path: Path) -> None:
    """A whole number has the same text in any size."""
    first = published(tmp_path, "create table seats as select 1 as seat")
    second = published(tmp_path, "alter table seats alter column seat type bigint")
    assert first.marts[0].digest == second.marts[0].digest
    (mart,) = diff_builds(file_of(tmp_path, first), file_of(tmp_path, second)).marts
    assert mart.columns_retyped == {"seat": ("INTEGER", "BIGINT")}
    assert not mart.is_equal


def test_a_file_that_may_be_written_is_read_whatever_digests_it_names(tmp_path: Path) -> None:
    """Somebody has copied a published file and changed a row in it: its records know nothing of that."""
    build = published(tmp_path / "warehouse", FARES)
    edited = tmp_path / "edited.duckdb"
    edited.write_bytes(file_of(tmp_path / "warehouse", build).read_bytes())
    run(edited, "update fares set day = 6 where fare_id = 1")
    difference = diff_builds(file_of(tmp_path / "warehouse", build), edited)
    assert not difference.is_equal
    assert difference.b == str(edited)


def test_a_build_does_not_differ_from_itself(tmp_path: Path) -> None:
    """Nor does it from an untouched copy."""
    build = published(tmp_path / "warehouse", FARES)
    file = file_of(tmp_path / "warehouse", build)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(file.read_bytes())
    for other in (file, layout.current_link(tmp_path / "warehouse"), copy):
        difference = diff_builds(file, other)
        assert difference.is_equal
        assert [mart.rows_a for mart in difference.marts] == [50]


def test_samples_are_few_and_short(tmp_path: Path) -> None:
    """Of a thousand changed rows with long texts only some are given, each cut."""
    table = (
        "create table notes as select range as note_id, repeat('é', 5000) || range as note from range(1000)"
    )
    mart = compare(
        tmp_path,
        [table],
        [table, "update notes set note = note || '!'"],
        grains={"notes": ["note_id"]},
        samples=3,
    )
    assert of(mart.rows) == (0, 0, 1000)
    assert mart.rows is not None
    assert len(mart.rows.changed_samples) == 3
    before, after = mart.rows.changed_samples[0].changed["note"]
    assert before == after == "é" * 200 + "…"


def test_one_mart_alone_and_a_wrong_name(tmp_path: Path) -> None:
    """A name that neither has is a wrong usage, and says what there is."""
    files = two_files(tmp_path, [FARES, "create table seats as select 1 as seat"], [FARES])
    difference: BuildDiff = diff_builds(*files, mart="fares")
    assert [mart.mart for mart in difference.marts] == ["fares"]
    with pytest.raises(UsageError, match="fares, seats"):
        diff_builds(*files, mart="fare; drop table x")


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    """The sentence names the file."""
    good, _ = two_files(tmp_path, [FARES], [FARES])
    bad = tmp_path / "notes.txt"
    bad.write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(BuildUnreadable, match=r"notes\.txt"):
        diff_builds(good, bad)
    with pytest.raises(UsageError, match="no such file"):
        diff_builds(good, tmp_path / "absent.duckdb")


def test_nothing_is_left_behind_and_the_work_is_done_where_asked(tmp_path: Path) -> None:
    """The folder for what is spilled is empty afterwards, also after an error."""
    files = two_files(tmp_path, [FARES], [FARES, "update fares set day = 0"])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    diff_builds(*files, temporary=temporary)
    with pytest.raises(UsageError):
        diff_builds(*files, mart="nothing", temporary=temporary)
    assert list(temporary.iterdir()) == []
