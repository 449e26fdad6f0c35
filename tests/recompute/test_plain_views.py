"""Of which views it is known by the commits what is new in them, and what depends on it."""

from __future__ import annotations

import pytest

from event_archive.recompute.plain_views import is_plain

PLAIN = {
    "columns and a condition": 'select a, upper(b) as b, commit_version from "staging"."decoded" where a > 1',
    "through a CTE": "with e as (select * from staging.decoded), f as (select * from e where a > 1) select * from f",
    "through a CTE of its own name": "with decoded as (select * from staging.decoded) select * from decoded where a > 1",
    "through a CTE of the name of another": "with carts as (select * from staging.decoded) select * from carts",
    "through a subquery": "select * from (select a, commit_version from staging.decoded) as s",
    "with a list of constants": "select d.*, z.name from decoded d left join (values (1, 'x')) as z (id, name) on d.a = z.id",
}
NOT_PLAIN = {
    "a window": "select a, row_number() over (partition by a order by event_id) as n, commit_version from decoded",
    "a group": "select a, max(commit_version) as commit_version from decoded group by a",
    "an aggregate of all": "select max(commit_version) as commit_version from decoded",
    "distinct": "select distinct a, commit_version from decoded",
    "a limit": "select * from decoded order by event_id limit 3",
    "qualify": "select * from decoded qualify row_number() over (partition by a order by event_id) = 1",
    "a join with itself": "select x.* from decoded x join decoded y on x.a = y.b",
    "a join with itself through a CTE": "with e as (select * from decoded) select x.* from e x join e y on x.a = y.b",
    "a join with itself through a CTE of its own name": "with decoded as (select * from staging.decoded) select x.* from decoded x join decoded y on x.a = y.b",
    "a CTE and the table behind it": "with decoded as (select * from staging.decoded) select x.* from decoded x join staging.decoded y on x.a = y.b",
    "a subquery": "select * from decoded where a in (select b from decoded)",
    "a union": "select * from decoded union all select * from decoded",
    "another changing table": "select d.* from decoded d join carts using (a)",
    "an outer join of the other side": "select d.* from (values (1)) as z (a) full join decoded d using (a)",
    "no changing table": "select 1 as commit_version",
    "no query": "drop table decoded",
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_view_that_gives_each_row_once_or_not_at_all_is_plain(name: str) -> None:
    """Whatever else there is, a row of it comes from one row of the table."""
    assert is_plain(PLAIN[name], ["decoded", "carts"])


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_view_whose_rows_depend_on_others_is_not(name: str) -> None:
    """A new row may change or remove old ones."""
    assert not is_plain(NOT_PLAIN[name], ["decoded", "carts"])
