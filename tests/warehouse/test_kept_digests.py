"""A digest that is kept up equals the one of the whole mart, or the whole mart is read."""

from __future__ import annotations

import logging
import random
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import pytest

from event_archive.warehouse import MartRecord
from event_archive.warehouse.digest import RowSums, row_sums, table_digest
from event_archive.warehouse.kept_digests import KeptDigest, digest_marts
from event_archive.warehouse.record_tables import write_marts

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = """
    set timezone = 'UTC';
    create schema meta;
    create schema staging;
    create table meta.models (
        model varchar, schema_name varchar, materialized varchar, level varchar, key varchar[], version bigint, full_at bigint
    );
    create table meta.inputs (model varchar, input varchar, version bigint, commit_version bigint);
    create table meta.plain_views as select 'cart_view' as view;
    create table main.carts (cart_id bigint, items varchar[], value_usd decimal(18, 2), note varchar);
    create table meta.changes__carts as select *, null::bigint as change_version, null::boolean as is_added from carts;
    create table staging.decoded (event_id varchar, kind varchar, commit_version bigint);
    create view main.cart_view as select event_id, commit_version from staging.decoded where kind <> 'b';
    create table main.cart_events (event_id varchar, kind varchar, commit_version bigint);
    insert into meta.inputs values ('cart_view', 'decoded', 1, 0), ('cart_events', 'decoded', 1, 0);
    insert into meta.models values
        ('carts', 'main', 'incremental', 'entity', ['cart_id'], 1, 1),
        ('cart_events', 'main', 'incremental', 'event', [], 1, 1),
        ('decoded', 'staging', 'incremental', 'event', [], 1, 1),
        ('cart_view', 'main', 'view', null, [], 1, 1);
"""
CODE = {"carts": "code 1", "cart_events": "code 1", "cart_view": "code 1"}


class Notes:
    """A build's file with three marts, and the notes that the models' macros keep of them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, seed: int = 0) -> None:
        self.connection = connection
        self.chance = random.Random(seed)
        self.version = 1
        self.commit = 0
        connection.execute(TABLES)
        self.change()

    def change(self) -> None:
        """One run that changes rows of random carts and adds a commit of events."""
        self.commit += 1
        carts = sorted({self.chance.randrange(30) for _ in range(12)})
        listed = ", ".join(map(str, carts))
        self.connection.execute(
            f"insert into meta.changes__carts select *, {self.version}, false from carts where cart_id in ({listed})"
        )
        self.connection.execute(f"delete from carts where cart_id in ({listed})")
        for cart in carts:
            for row in range(self.chance.randrange(4)):  # a cart may be gone, or the same row be there twice
                text = self.chance.choice([None, "", "a", "null"])
                values = (
                    cart if self.chance.random() > 0.1 else None,
                    [text, str(row // 2)],
                    str(row // 2),
                    text,
                )
                self.connection.execute("insert into carts values (?, ?, ?, ?)", values)
                self.connection.execute(
                    f"insert into meta.changes__carts values (?, ?, ?, ?, {self.version}, true)", values
                )
        for number in range(self.chance.randrange(5)):
            event = (f"event {self.commit}.{number}", self.chance.choice(["a", "b", "c"]), self.commit)
            for table in ("cart_events", "staging.decoded"):
                self.connection.execute(f"insert into {table} values (?, ?, ?)", event)

    def run(self) -> None:
        """As `change`, with the version that a further run of the models has."""
        self.version += 1
        self.connection.execute("update meta.models set version = ?", [self.version])
        self.change()

    def digests(self, code: dict[str, str] | None = None) -> dict[str, KeptDigest]:
        """Digest the marts and record it, as publishing does."""
        hashes = CODE if code is None else code
        found = digest_marts(self.connection, hashes)
        records = [
            MartRecord(kept.mart, kept.sums.rows, kept.digest, kept.level, kept.key, (), kept.code_hash)
            for kept in found
        ]
        write_marts(self.connection, records, found)
        return {kept.mart: kept for kept in found}

    def in_full(self) -> dict[str, str]:
        """The digests of the marts as they are."""
        return {
            mart: table_digest(self.connection, "main", mart).digest
            for mart in ("cart_events", "cart_view", "carts")
        }


@pytest.fixture
def notes() -> Iterator[Notes]:
    """A build's file that has been digested once."""
    with closing(duckdb.connect()) as connection:
        made = Notes(connection)
        made.digests()
        yield made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is read to make digests: relation and condition of each query."""
    seen: list[tuple[str, str]] = []

    def noting(
        connection: duckdb.DuckDBPyConnection, relation: str, columns: dict[str, str], condition: str = "true"
    ) -> RowSums:
        seen.append((relation, condition))
        return row_sums(connection, relation, columns, condition)

    monkeypatch.setattr("event_archive.warehouse.kept_digests.row_sums", noting)
    return seen


@pytest.mark.parametrize("seed", range(20))
def test_a_kept_digest_equals_the_digest_of_the_whole_mart(seed: int) -> None:
    """Whatever was inserted, deleted, made null or doubled, in one run or several."""
    with closing(duckdb.connect()) as connection:
        notes = Notes(connection, seed)
        notes.digests()
        for _ in range(6):
            for _ in range(notes.chance.choice([0, 1, 1, 3])):
                notes.run()
            assert {mart: kept.digest for mart, kept in notes.digests().items()} == notes.in_full()


def test_only_what_has_changed_is_read(notes: Notes, read: list[tuple[str, str]]) -> None:
    """Change log and later commits; nothing at all when nothing has run."""
    notes.run()
    notes.digests()
    assert sorted(read) == [
        ('main."cart_events"', "commit_version > 1"),
        ('main."cart_view"', "commit_version > 1"),
        ('meta."changes__carts"', "change_version > 1 and is_added"),
        ('meta."changes__carts"', "change_version > 1 and not is_added"),
    ]
    read.clear()
    kept = notes.digests()
    assert read == [('main."cart_view"', "commit_version > 2")]
    assert {mart: one.digest for mart, one in kept.items()} == notes.in_full()


@pytest.mark.parametrize(
    "unsure",
    [
        "update meta.models set full_at = version where model in ('carts', 'cart_events', 'decoded')",
        "delete from meta.models",
        "drop table meta.models",
        "update meta.models set version = 1",
        "update meta.models set level = 'day' where model = 'carts'",
        "insert into meta.models select * from meta.models",
        "drop table build_marts",
        "update build_marts set lower_sum = lower_sum + 1",
        "update build_marts set version = null",
        "alter table build_marts drop column upper_sum",
        "alter table carts alter column note type blob",
        "alter table carts rename column note to remark",
        "drop table meta.changes__carts",
        "alter table meta.changes__carts drop column note",
        "delete from meta.changes__carts where change_version = 2",
    ],
)
def test_whenever_something_is_not_sure_the_whole_mart_is_read(notes: Notes, unsure: str) -> None:
    """Notes that are absent, other columns, a full run since, a log that was cleared: the digest is right all the same."""
    notes.run()
    notes.run()
    if unsure == "update meta.models set version = 1":  # as after a rebuild whose file counts anew
        notes.connection.execute("update build_marts set version = 5")
    notes.connection.execute(unsure)
    assert {mart: kept.digest for mart, kept in notes.digests().items()} == notes.in_full()


def exchange(notes: Notes) -> None:
    """One row for another in `carts`, so that the count stays; the change log isn't told."""
    notes.connection.execute(
        "update carts set value_usd = value_usd + 1 where rowid = (select min(rowid) from carts)"
    )


def test_a_full_run_is_noticed_although_the_count_fits(notes: Notes) -> None:
    """Its log begins anew, so what it has changed is in none."""
    notes.version += 1
    notes.connection.execute("update meta.models set version = 2, full_at = 2 where model = 'carts'")
    exchange(notes)
    assert notes.digests()["carts"].digest == notes.in_full()["carts"]


def test_a_log_that_was_cleared_is_noticed_although_the_count_fits(notes: Notes) -> None:
    """Two runs since the last digest, and only the second is in the log."""
    exchange(notes)
    notes.version += 1
    notes.run()
    notes.connection.execute("delete from meta.changes__carts where change_version <= 2")
    assert notes.digests()["carts"].digest == notes.in_full()["carts"]


@pytest.mark.parametrize(
    "change", ["rename column kind to sort", "alter column kind type boolean using kind = 'a'"]
)
def test_other_columns_are_noticed_although_the_count_fits(notes: Notes, change: str) -> None:
    """Of rows of event level too, which nothing else would tell."""
    notes.connection.execute(f"alter table cart_events {change}")
    notes.connection.execute("update meta.models set version = 2")
    assert notes.digests()["cart_events"].digest == notes.in_full()["cart_events"]


def test_removed_and_added_rows_are_both_counted_without_reading_the_mart(
    notes: Notes, read: list[tuple[str, str]]
) -> None:
    """A run that does nothing but exchange rows."""
    for statement in (
        "update meta.models set version = 2",
        "insert into meta.changes__carts select *, 2, false from carts where value_usd = 0",
        "update carts set note = 'exchanged' where value_usd = 0",
        "insert into meta.changes__carts select *, 2, true from carts where value_usd = 0",
    ):
        notes.connection.execute(statement)
    assert notes.digests()["carts"].digest == notes.in_full()["carts"]
    assert ('main."carts"', "true") not in read


def test_rows_of_other_code_are_read_whole(notes: Notes, read: list[tuple[str, str]]) -> None:
    """A view has no full run that would be noted: its code's hash tells, and without one nothing does."""
    notes.run()
    notes.connection.execute(
        "create or replace view cart_view as select event_id || '!' as event_id, commit_version from staging.decoded "
        "where kind <> 'b'"
    )
    assert notes.digests({**CODE, "cart_view": "code 2"})["cart_view"].digest == notes.in_full()["cart_view"]
    assert ('main."cart_view"', "true") in read
    notes.digests({})
    read.clear()
    notes.run()
    assert notes.digests({})["cart_view"].digest == notes.in_full()["cart_view"]
    assert ('main."cart_view"', "true") in read


def test_a_change_log_that_lacks_a_row_is_found_out_by_the_count(
    notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    """The mart is read whole, and it is said that its notes are wrong."""
    notes.run()
    notes.connection.execute(
        "delete from meta.changes__carts where rowid = (select min(rowid) from meta.changes__carts where change_version = 2)"
    )
    with caplog.at_level(logging.WARNING):
        assert notes.digests()["carts"].digest == notes.in_full()["carts"]
    assert "carts has other rows than its own notes" in caplog.text


def test_a_change_log_with_a_wrong_value_gives_another_digest_than_the_rows(notes: Notes) -> None:
    """So a rebuild, which reads the rows, disagrees: a wrong incremental run doesn't confirm itself."""
    notes.run()
    notes.connection.execute(
        "update meta.changes__carts set value_usd = value_usd + 1 where rowid = "
        "(select min(rowid) from meta.changes__carts where change_version = 2 and is_added)"
    )
    assert notes.digests()["carts"].digest != notes.in_full()["carts"]
