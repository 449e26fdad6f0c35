"""Which statements are let through to the archive: the first lock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from event_archive.errors import QueryRefused
from event_archive.sql.sandbox import check

if TYPE_CHECKING:
    import duckdb

    from tests.sql.conftest import Place

READING = [
    "select count(*) from archive.bookings",
    "select payload->>'type', payload.seat from ARCHIVE.Bookings where payload is not null",
    "from bookings",
    "table bookings;",
    "-- a comment\nselect 1 /* another */ ; -- and one more",
    "values (1, 'a'), (2, 'b')",
    "with seats as (select seat from bookings) select * from seats, bookings b where b.seat = seats.seat",
    "with recursive r as (select 1 as n union all select n + 1 from r where n < 5) select sum(n) from r",
    "(select 1) union all select 2 order by 1 desc limit 1 offset 1",
    "select * from bookings, lateral (select booking_id + 1)",
    "select (select max(booking_id) from bookings), exists (from archive.carts), 1 in (select booking_id from bookings)",
    "describe archive.bookings",
    "describe select 1 as a",
    "summarize bookings",
    "show tables",
    "show all tables",
    "show tables from archive",
    "show bookings",
    "select table_schema, table_name from information_schema.tables",
    "select column_name from information_schema.columns",
    "pivot bookings on seat in ('12A', '12B') using count(*)",
    "unpivot bookings on booking_id",
    "select * from range(3) t(n), unnest([1, 2]), generate_series(1, 2)",
    "select e.key from archive.bookings, json_each(payload) e",
    "select list_transform([1, 2], lambda x: x + 1), [x * 2 for x in [1, 2] if x > 1]",
    "select row_number() over (), lag(seat) over (order by booking_id), sum(booking_id) over w from bookings window w as (order by seat)",
    "select count(*) filter (where seat = '12A'), list(seat order by seat), quantile_cont(booking_id, 0.5) from bookings",
    "select grouping(seat), seat from bookings group by rollup (seat) having count(*) > 0",
    "select seat, row_number() over () as n from bookings qualify n = 1",
    "select distinct on (seat) * exclude (booking_id) replace (upper(seat) as seat) from bookings",
    "select columns('.*id') from bookings tablesample 10%",
    "select extract(year from now()), current_date, date_trunc('day', timestamptz '2020-01-01'), interval 1 day",
    "select case when true then 1 end, coalesce(null, 1), nullif(1, 1), try_cast('x' as int), 1::decimal(10, 2), 5 // 2, 2 ** 3",
    "select {'a': 1}.a, [1, 2][1], map {'a': 1}['a'], (1, 2), row(1, 2), 'a' || 'b', 'x' ilike 'X', not true, 1 between 0 and 2",
    "select random() < 2, uuid() is null, md5('x'), hash(1), 'a' collate nocase = 'A', typeof(1), trim(' x '), position('a' in 'ba')",
    "select * from bookings x asof join bookings y on x.booking_id >= y.booking_id",
    "select b.seat from archive.carts c right join bookings b on c.source_offset = b.booking_id",
    "select read_text from (select 1 as read_text)",
    "select '/etc/passwd', 'read_text(''/etc/passwd'')', 'copy x to y; drop table z'",
]

# What a statement could do beyond reading what is shown; {secret}, {file} and {root} are real paths.
RELATIONS = [
    "read_text('{secret}/secret.csv')",
    "read_blob('{secret}/secret.csv')",
    "read_csv('{secret}/secret.csv')",
    "read_csv_auto('{secret}/secret.csv')",
    "read_json('{secret}/secret.csv')",
    "read_ndjson_objects('{secret}/secret.csv')",
    "read_parquet('{secret}/unseen.parquet')",
    "parquet_scan('{secret}/unseen.parquet')",
    "read_parquet('{file}')",
    "read_parquet(['{file}'])",
    "parquet_metadata('{file}')",
    "parquet_schema('{file}')",
    "parquet_kv_metadata('{file}')",
    "parquet_file_metadata('{file}')",
    "parquet_bloom_probe('{file}', 'value', 1)",
    "glob('{root}/*')",
    "sniff_csv('{secret}/secret.csv')",
    "'{secret}/secret.csv'",
    '"{secret}/unseen.parquet"',
    "'{file}'",
    "'file://{secret}/secret.csv'",
    "read_text('file://{secret}/secret.csv')",
    "'http://localhost:1/x.csv'",
    "'s3://bucket/x.parquet'",
    "python_variable",
    "memory.main.bookings",
    "published_warehouse.staging.stg_bookings",
    "published_warehouse.main.bookings",
    "published_warehouse.bookings",
    "staging.stg_bookings",
    "stg_bookings",
    "temp.bookings",
    "system.information_schema.tables",
    "information_schema.views",
    "pg_catalog.pg_class",
    "pg_class",
    "sqlite_master",
    "duckdb_settings",
    "duckdb_settings()",
    "duckdb_secrets()",
    "duckdb_views()",
    "duckdb_databases()",
    "duckdb_logs()",
    "pragma_database_list",
    "pragma_table_info('bookings')",
    "pragma_storage_info('bookings')",
    "query('select 1')",
    "query_table('bookings')",
    "json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "which_secret('s3://x', 's3')",
    "seq_scan('bookings')",
    "histogram(bookings, seat)",
    "checkpoint('memory')",
    "enable_logging()",
    "arrow_scan(1, 2, 3)",
    "bookings at (version => 1)",
    "(insert into bookings values (2, '1A') returning *)",
    "(describe '{secret}/secret.csv')",
    "(summarize '{secret}/unseen.parquet')",
    "(show databases)",
]

# Where a relation can stand in a statement.
PLACES = [
    "from {}",
    "select * from {}",
    "/* select 1 */ select * from {} -- ;",
    "with a as (select * from {}) select 1",
    "with a as materialized (with b as (from {}) from b) select * from a",
    "with recursive r as (select 1 as n union all select 1 from {}) select * from r",
    "select (select count(*) from {})",
    "select 1 where exists (select 1 from {})",
    "select 1 in (select 1 from {})",
    "select * from bookings, lateral (select * from {})",
    "select * from bookings b left join {} on true",
    "select 1 union all select 1 from {}",
    "select list_transform([1], lambda x: (select count(*) from {}))",
    "select sum((select 1 from {})) over (partition by (select 2 from {})) from bookings",
    "select count(*) filter (where exists (from {})) from bookings",
    "select 1 from bookings group by (select 1 from {}) having exists (from {})",
    "select 1 from bookings order by (select 1 from {})",
    "select 1 limit (select 1 from {})",
    "select * replace ((select 1 from {}) as seat) from bookings",
    "select case when true then (select 1 from {}) end",
    "select unnest((select [1] from {}))",
    "from range((select 1 from {}))",
    "values ((select 1 from {}))",
    "pivot (from {}) on a in (1) using count(*)",
    "unpivot (from {}) on a",
    "describe from {}",
    "summarize from {}",
]

STATEMENTS = [
    "copy bookings to '{root}/out.csv'",
    "copy (select 1) to '{file}' (use_tmp_file false, format csv)",
    "copy bookings from '{secret}/secret.csv'",
    "attach '{root}/new.duckdb' as n",
    "attach ':memory:' as n",
    "detach published_warehouse",
    "use archive",
    "install httpfs",
    "load httpfs",
    "load '{root}/x.duckdb_extension'",
    "update extensions",
    "set threads = 1",
    "set home_directory = '/'",
    "set variable x = 1",
    "reset threads",
    "pragma threads = 1",
    "pragma show_databases",
    "pragma enable_profiling",
    "create table t as select 1",
    "create temp table t as select 1",
    "create view v as select 1",
    "create or replace view bookings as select 1",
    "create macro m() as 1",
    "create macro m() as table from read_text('{secret}/secret.csv')",
    "create schema s",
    "create sequence s",
    "create type t as enum ('a')",
    "create secret (type s3, key_id 'x')",
    "drop secret x",
    "drop view bookings",
    "alter view bookings rename to b",
    "comment on view bookings is 'x'",
    "insert into bookings values (2, '1A')",
    "update bookings set seat = '1A'",
    "delete from bookings",
    "truncate bookings",
    "merge into bookings using archive.carts on true when matched then delete",
    "export database '{root}/export'",
    "import database '{root}/export'",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "explain select 1",
    "explain analyze create table t as select 1",
    "explain analyze copy bookings to '{root}/out.csv'",
    "call duckdb_settings()",
    "call enable_logging()",
    "checkpoint",
    "force checkpoint",
    "vacuum",
    "analyze",
    "begin",
    "commit",
    "rollback",
    "show databases",
    "show tables from published_warehouse",
    "show variables",
    "describe '{secret}/secret.csv'",
    "describe published_warehouse.staging.stg_bookings",
    "select 1; select 2",
    "select 1; drop view bookings",
    "select 1; -- x\n copy bookings to '{root}/out.csv'",
    "with x as (insert into bookings values (2, '1A') returning *) select * from x",
    "with x as (delete from bookings returning *) select * from x",
    "with x as (update bookings set seat = '1' returning *) select * from x",
    "pivot bookings on seat",
    'with "{secret}/secret.csv" as (select 1) select * from "{secret}/secret.csv"',
    'with a as (with "x.csv" as (select 1) select 1) select * from "x.csv"',
    "with a as (with hidden as (select 1) from hidden) select * from hidden",
    "select $1",
    "select ?",
    "",
    ";",
    "-- nothing",
    "selec 1",
    "select '\ud800'",
]

FUNCTIONS = [
    "getenv('HOME')",
    "current_setting('temp_directory')",
    "getvariable('x')",
    "nextval('s')",
    "setseed(0.5)",
    "sleep_ms(1)",
    "pg_sleep(1)",
    "write_log('x')",
    "json_serialize_sql('select 1')",
    "json_deserialize_sql('x')",
    "json_serialize_plan('select 1')",
    "pg_get_viewdef(1)",
    "current_query()",
    "txid_current()",
    "read_text('{secret}/secret.csv')",
    "parquet_metadata('{file}')",
    "published_warehouse.main.note()",
    "published_warehouse.main.upper('x')",
    "note()",
    "no_such_function(1)",
    "__internal_compress_string_utinyint('x')",
]
FUNCTION_PLACES = [
    "select {}",
    "select 1 where {} is null",
    "select list_transform([1], lambda x: {})",
    "with a as (select {} as b) select b from a",
    "select count(*) from bookings having max({}) is null",
    "select * replace ({} as seat) from bookings",
    "select * from range(coalesce({}::varchar::int, 1))",
    "select 1 order by {}",
    "select try({})",
]


def expect_refusal(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Expect one sentence for a person."""
    with pytest.raises(QueryRefused) as refusal:
        check(connection, query)
    sentence = str(refusal.value)
    assert re.search(r"[a-z]", sentence), query
    assert "\n" not in sentence
    assert len(sentence) < 1000


@pytest.mark.parametrize("query", READING)
def test_a_reading_statement_runs(query: str, analyst: duckdb.DuckDBPyConnection) -> None:
    """What analysts write every day is let through, and DuckDB runs it."""
    relation = analyst.sql(check(analyst, query))
    assert relation is not None
    relation.fetchall()


@pytest.mark.parametrize("relation", RELATIONS)
def test_nothing_but_what_is_shown_is_read_wherever_it_stands(
    relation: str, place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """Each way to read something else, in each place where a relation can stand."""
    python_variable = pa.table({"a": [1]})  # what DuckDB could take for a table
    assert python_variable.num_rows == 1
    target = relation.format(secret=place.secret, file=place.files[0], root=place.root)
    for statement in PLACES:
        expect_refusal(analyst, statement.replace("{}", target))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_any_other_statement_is_refused(
    statement: str, place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """Everything that isn't one reading statement."""
    expect_refusal(analyst, statement.format(secret=place.secret, file=place.files[0], root=place.root))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_does_more_than_compute_is_refused_wherever_it_stands(
    function: str, place: Place, analyst: duckdb.DuckDBPyConnection
) -> None:
    """Each such function, in each place where an expression can stand."""
    call = function.format(secret=place.secret, file=place.files[0])
    for statement in FUNCTION_PLACES:
        expect_refusal(analyst, statement.replace("{}", call))


def test_an_impure_function_that_nobody_has_judged_is_refused(analyst: duckdb.DuckDBPyConnection) -> None:
    """Of all functions of this DuckDB, those that it doesn't call pure are the judged ones."""
    names = analyst.execute(
        "select distinct function_name from duckdb_functions() where function_type = 'scalar' and stability <> 'CONSISTENT' "
        "and regexp_full_match(function_name, '[a-z0-9_]+') order by 1"
    ).fetchall()
    allowed = set()
    for (name,) in names:
        try:
            check(analyst, f"select {name}()")
        except QueryRefused:
            continue
        allowed.add(name)
    judged = {
        "random",
        "uuid",
        "uuidv4",
        "uuidv7",
        "gen_random_uuid",
        "error",
        "now",
        "today",
        "current_date",
    }
    judged |= {"get_current_time", "get_current_timestamp", "transaction_timestamp"}
    judged |= {"current_schema", "current_schemas", "current_database"}
    assert allowed <= judged


def test_a_query_nested_too_deep_is_refused_and_nothing_worse(analyst: duckdb.DuckDBPyConnection) -> None:
    """A sentence, not a crash."""
    expect_refusal(analyst, "select " + "not " * 20_000 + "true")
    expect_refusal(analyst, "select " + "(select " * 3000 + "1" + ")" * 3000)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("select 1; drop view bookings", "holds 2 statements"),
        ("copy bookings to 'x.csv'", "kind COPY .* redirect the output"),
        ("create table t as select 1", "kind CREATE .* use WITH"),
        ("set threads = 1", "kind (VARIABLE )?SET "),
        ("", "is empty"),
        (
            "from '/etc/passwd'",
            "files can't be read by their path; possible are archive.bookings, archive.carts, and the marts bookings",
        ),
        ("from read_text('/etc/passwd')", "table function “read_text”"),
        ("select getenv('HOME')", "no function “getenv”"),
        ("select $1", "parameter"),
        ("pivot bookings on seat", "statement"),
    ],
)
def test_a_refusal_says_what_and_what_is_possible_instead(
    query: str, sentence: str, analyst: duckdb.DuckDBPyConnection
) -> None:
    """In the words of the person who typed it."""
    with pytest.raises(QueryRefused, match=sentence):
        check(analyst, query)
