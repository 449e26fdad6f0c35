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


EVERY_TYPE = """
    select i as id, -i::hugeint * 170141183460469231731687303715 as huge, i % 2 = 0 as flag, 'tëxt "' || i || chr(10) as text, i::decimal(18, 2) / 3 as price,
    (i / 7.0)::double as ratio, (i / 7.0)::float as small_ratio, date '2024-02-28' + i::int as day, timestamp '2024-02-28 23:59:59.999999' + to_microseconds(i) as at_local,
    timestamptz '2024-02-28 23:59:59.5+05:30' + to_seconds(i) as at, to_minutes(i * 601) as took, time '01:02:03' + to_seconds(i) as clock, encode('é' || i) as raw,
    [i, null] as list, ['a, b', null, '''', 'NULL', '']::varchar[] as texts, {'a': i, 'b c': ['x', null], 'd': {'e': null}} as struct, map([i, i + 1], ['x', null]) as map,
    '00000000-0000-0000-0000-00000000000' || (i % 10) as id_text, ('00000000-0000-0000-0000-00000000000' || (i % 10))::uuid as uid, case when i % 3 = 0 then null else 'web' end as channel,
    (case i % 3 when 0 then 'one' else 'two' end)::enum('one', 'two') as kind, '{"b": 1, "a": [null]}'::json as payload, 'nan'::double as nan, '-infinity'::double as inf, -0.0::double as zero
    from range(1000) numbers(i)
"""


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


def test_digests_stay_what_they_are() -> None:
    """A digest that was recorded years ago is still comparable: this is what DuckDB 1.5.5 and 2.0 both gave, for every type of column."""
    assert digest(EVERY_TYPE) == TableDigest(
        rows=1000, digest="8994b52b34b10e37cd665bb56c7ce619e98925667519e5b62d6de05665c5a9d4"
    )
