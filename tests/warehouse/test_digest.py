"""The digest of a mart is equal exactly when its rows are."""

from __future__ import annotations

import duckdb
import pytest

from event_archive.warehouse.digest import TableDigest, table_digest

BOOKING = (
    "select i as booking_id, 'seat ' || i % 30 as seat, (i % 700)::decimal(18, 2) as price_usd, "
    "timestamptz '2013-01-01 05:15:00.25-05' + interval (i) second as booked_at, "
    "case when i % 3 = 0 then null else 'web' end as channel, [i, null] as legs, {'a': i} as fare "
    "from range(5000) numbers(i)"
)


def digest(query: str) -> TableDigest:
    """Digest of a table with the rows of a query."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"create table bookings as {query}")
        return table_digest(connection, "main", "bookings")


def test_the_digest_does_not_know_the_order_of_rows_or_columns() -> None:
    """A rebuild may write rows in another order than an incremental build did."""
    plain = digest(BOOKING)
    assert plain.rows == 5000
    assert digest(f"from ({BOOKING}) order by booking_id desc") == plain
    assert digest(f"select fare, legs, * exclude (fare, legs) from ({BOOKING})") == plain


@pytest.mark.parametrize(
    "change",
    [
        "price_usd = price_usd + 0.01",
        "seat = seat || ' '",
        "booked_at = booked_at + interval 1 microsecond",
        "channel = 'null'",
        "channel = ''",
        "channel = '-'",
        "legs = [booking_id]",
        "legs = null",
        "fare = {'a': -1}",
    ],
)
def test_the_digest_notices_one_changed_value_in_one_row(change: str) -> None:
    """Whatever the type, and null, empty and the text of a null are three values."""
    row = 2013 // 3 * 3  # where the channel is null
    column, value = change.split(" = ", 1)
    changed = f"select * replace (case when booking_id = {row} then {value} else {column} end as {column}) from ({BOOKING})"
    assert digest(changed) != digest(BOOKING)


def test_the_digest_notices_a_missing_a_repeated_and_an_exchanged_row() -> None:
    """Rows that occur twice count too, which an exclusive or would not see; so do values that moved to another row."""
    plain = digest(BOOKING)
    assert digest(f"from ({BOOKING}) where booking_id <> 17") != plain
    assert digest(f"from ({BOOKING}) union all (from ({BOOKING}) where booking_id = 17)") != plain
    assert digest("select 'a' as seat from range(2)") != digest("select 'b' as seat from range(2)")
    swapped = f"select * replace (case booking_id when 1 then 'seat 2' when 2 then 'seat 1' else seat end as seat) from ({BOOKING})"
    assert digest(swapped) != plain


def test_a_value_never_passes_for_a_part_of_its_neighbour() -> None:
    """'ab' beside 'c' is not 'a' beside 'bc', nor is a list of one text a list of two."""
    assert digest("select 'ab' as a, 'c' as b") != digest("select 'a' as a, 'bc' as b")
    assert digest("select null as a, 'x' as b") != digest("select 'x' as a, null as b")
    for one, other in [
        ("['a, b']", "['a', 'b']"),
        ("[null]", "['NULL']"),
        ("{'a': '1, b: 2'}", "{'a': '1', 'b': '2'}"),
    ]:
        assert digest(f"select {one} as a") != digest(f"select {other} as a")


def test_an_empty_table_has_a_digest_of_its_own() -> None:
    """No rows is a state too, and the name of a column belongs to it."""
    assert digest("select 1 as a where false").rows == 0
    assert digest("select 1 as a where false") != digest("select 1 as b where false")
    assert digest("select 1 as a where false") != digest("select 1 as a")
