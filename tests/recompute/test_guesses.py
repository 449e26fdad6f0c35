"""What a model must not use is found, whatever the SQL around it; and what looks like it is let pass.

What doesn't live here: that rebuilds are the same (`test_determinism`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive.recompute.determinism import ModelGuesses, guesses
from tests.readers.environments import EngineUnavailable, environment

if TYPE_CHECKING:
    from tests.recompute.place import Place
    from tests.recompute.statements import Statements

REPOSITORY = Path(__file__).parents[2]

QUERY = re.compile(
    r"^create .*?(?:\bas|\binsert into\s+\S+\s*\([^)]*\))\s*\(\s*((?:select|with)\b.*)\)\s*;?\s*$",
    re.DOTALL | re.IGNORECASE,
)
"""What a table or a view is made of."""
BANNED = {
    # the clock
    "select now() as made_at from t": {"now"},
    "select today() from t": {"today"},
    "select current_date from t": {"current_date"},
    "select current_timestamp from t": {"current_timestamp"},
    "select current_time, localtime, localtimestamp from t": {"current_time", "localtime", "localtimestamp"},
    "select * from t where a > get_current_timestamp()": {"get_current_timestamp"},
    "select transaction_timestamp() from t": {"transaction_timestamp"},
    "select age(a) from t": {"age"},
    "select case when a < now() - interval 1 day then 1 end from t": {"now"},
    "with c as (select now() as n) select * from c": {"now"},
    "select (select max(today()) from u) from t": {"today"},
    "select a from t union all select now() from u": {"now"},
    "select a from t group by a having max(b) < now()": {"now"},
    "select a from t qualify row_number() over (order by now(), event_id) = 1": {"now"},
    # chance
    "select random() from t": {"random"},
    "select uuid(), gen_random_uuid() from t": {"uuid", "gen_random_uuid"},
    "select nextval('s') from t": {"nextval"},
    "select a from t order by random()": {"random"},
    "select * from t using sample 10": {"sample"},
    "select * from t tablesample bernoulli (10%)": {"sample"},
    # where it runs
    "select getenv('HOME') from t": {"getenv"},
    "select version(), current_user from t": {"version", "current_user"},
    "select current_setting('threads') from t": {"current_setting"},
    "select hash(a) from t": {"hash"},
    "select current_schema, current_database() from t": {"current_schema", "current_database"},
    "select rowid from t": {"rowid"},
    "select a from 'prices.csv'": {"prices.csv"},
    "select a from t join 'https://example.org/prices.parquet' using (b)": {
        "https://example.org/prices.parquet"
    },
    # estimates
    "select approx_count_distinct(a) from t": {"approx_count_distinct"},
    "select approx_quantile(a, 0.5) from t": {"approx_quantile"},
    # floating point numbers
    "select avg(a) from t": {"avg"},
    "select stddev(a), median(a) from t": {"stddev", "median"},
    "select sum(a / b) from t": {"sum of a quotient"},
    "select sum(cast(a as double)) from t": {"double"},
    "select a::float, b::real from t": {"float"},
    "select try_cast(a as double precision) from t": {"double"},
    "select fsum(a) from t": {"fsum"},
    "select sum(a) over (order by event_id) / avg(a) over () from t": {"avg"},
    "select regr_sxx(a, b) from t": {"regr_sxx"},
    # the order of rows
    "select json_group_array(a), json_group_object(a, b) from t": {"json_group_array", "json_group_object"},
    "select * from t positional join u": {"positional join"},
    "select any_value(a) from t": {"any_value"},
    "select first(a), last(b) from t": {"first", "last"},
    "select list(a) from t": {"list"},
    "select array_agg(a) from t": {"array_agg"},
    "select string_agg(a, ',') from t": {"string_agg"},
    "select mode(a) from t": {"mode"},
    "select arg_max(a, b) from t group by c": {"arg_max"},
    "select min_by(a, b) from t": {"min_by"},
    "select a from t limit 1": {"limit"},
    "select * from (select a from t limit 5) order by a": {"limit"},
    "select distinct on (a) a, b from t": {"distinct on"},
    "select row_number() over (partition by a) from t": {"row_number over"},
    "select row_number() over (partition by a order by b) from t": {"row_number over"},
    "select first_value(a) over (order by b) from t": {"first_value over"},
    "select lag(a) over (partition by b order by c), lead(a) over (order by c) from t": {
        "lag over",
        "lead over",
    },
    "select NOW() from t": {"now"},
    "select a from t where b in (select c from u limit 3)": {"limit"},
}
ALLOWED = [
    'select a from "staging"."a table. of some kind"',
    "select max(ingested_at) from t",
    "select age(a, b) from t",
    "select now from t",
    "select today, random, version from t",
    "select t.current_date, t.current_user from t",
    "select a - interval 1 day, a + interval (b) hour from t",
    "select 'now()' as text from t -- now()",
    'select "limit" from t',
    "select md5(a), sha256(a) from t",
    "select sum(a), count(*), min(a), max(b) from t",
    "select sum(cast(a / b as decimal(38, 9))) from t where false",
    "select cast(sum(a) as decimal(18, 2)) / 3 from t",
    "select a / b from t",
    "select quantile_disc(a, 0.5) from t",
    "select list(a order by b, event_id) from t",
    "select string_agg(a, ',' order by event_id) from t",
    "select array_agg(distinct a order by a) from t",
    "select list_sort(list_distinct(a)) from t",
    "select arg_max(a, number) from (select a, row_number() over (order by b, event_id) as number from t)",
    "select arg_max(a, event_id) from t",
    "select row_number() over (partition by a order by b, event_id) from t",
    "select rank() over (order by b), dense_rank() over (order by c), sum(a) over (partition by b) from t",
    "select a from t order by b limit 5",
    "select distinct a from t",
    "select cast(a as decimal(18, 2)), cast(a as bigint), a::varchar from t",
    "select row_number() over (order by source_offset) from t",
    "select t.a from t inner join u using (a) where t.b between u.c and u.d",
]


@pytest.mark.parametrize("sql", BANNED)
def test_what_must_not_be_used_is_found(sql: str) -> None:
    """By name, with what to write instead; wherever it stands, and nothing besides."""
    found = guesses(sql)
    assert BANNED[sql] == {guess.what for guess in found}
    assert all(guess.why.endswith(".") for guess in found)
    assert guesses(sql, BANNED[sql]) == []


@pytest.mark.parametrize("sql", ALLOWED)
def test_what_only_looks_like_it_is_let_pass(sql: str) -> None:
    """Columns, texts and comments of those names, and the right way to do it."""
    assert guesses(sql) == []


def test_an_older_duckdb_finds_the_same() -> None:
    """Its syntax trees are others."""
    try:
        older = environment("duckdb").python
    except EngineUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no older DuckDB in CI: {reason}")
        pytest.skip(f"no older DuckDB: {reason}")
    (site_packages,) = older.parents[1].glob("lib/python*/site-packages")
    script = (
        "import json, sys, duckdb; from event_archive.recompute.determinism import guesses; "
        "print(json.dumps([duckdb.__version__, [sorted({guess.what for guess in guesses(sql)}) for sql in json.load(sys.stdin)]]))"
    )
    asked = [*BANNED, *ALLOWED]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site_packages), str(REPOSITORY)])},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, found = json.loads(done.stdout)
    assert version.startswith("1.")
    assert dict(zip(asked, found, strict=True)) == {sql: sorted(BANNED.get(sql, ())) for sql in asked}


def test_our_own_models_use_nothing_of_it(statements: Statements) -> None:
    """Each query that dbt sends for the project's models, in full and incremental."""
    for model in statements.models:
        queries = [found[1] for text in {*model.in_full, *model.incremental} if (found := QUERY.search(text))]
        assert queries
        for sql in queries:
            assert [(model.name, guess.what) for guess in guesses(sql)] == []
            assert {guess.what for guess in guesses(f"select now() from ({sql})")} == {
                "now"
            }  # it is understood


def test_a_refresh_refuses_a_model_that_guesses(shop: Place) -> None:
    """It names model, part and remedy, nothing is published; a person may say that it does no harm."""
    before = shop.live
    shop.edit("models/marts/totals.sql", "sum(visits)", "sum(visits + extract('year' from now()) * 0)")
    with pytest.raises(
        ModelGuesses, match=r"totals uses now: tomorrow it gives something else; use ingested_at"
    ):
        shop.recompute()
    assert shop.live == before
    shop.edit("models/marts/totals.sql", "select", "{{ config(meta={'checked_by_hand': ['now']}) }} select")
    shop.recompute()
    assert shop.contents() == shop.rebuilt()
