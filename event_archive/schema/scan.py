"""Counts paths and kinds of values in the payloads of Parquet files of the archive, in columns, with bounded memory.

The payloads are looked at a batch at a time (`batches`), and in each level by level: the children of an object or list, then theirs. No path
is looked for; what is there is found. An event counts once for a path, however often it has it.

What doesn't live here: what the counts mean (`summary`, `drift`), and which files belong to a stream.

Tables on the connection afterwards:

    seen    day, type, path, parent, key, in_list, is_other, kinds (a mask of `KINDS`), events, commits and times, first and last
    totals  commit_version, ingested_at, day, type, state (json, not_json, not_utf8, null_value), events
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.schema import wide
from event_archive.schema.batches import batches
from event_archive.schema.expressions import bit, child_path, json_path, keys_of, kind_bit
from event_archive.sql.views import json_or_null, quote_text, text_of_utf8

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    import duckdb

    from event_archive.schema.batches import Batch

DEEPEST = 20
_MOST_TYPES = 200
_LONGEST_TYPE = 100
_MOST_STARTS = 12
_BATCHES_APART = 16

OTHER_TYPES = "(others)"


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look at.

    Attributes:
        type_field: Path whose texts tell types of events apart.
        time_field: Path with a timestamp: an event's day and time are that one's. None: the day is the one of its arrival, and its time
            what the source says.
        since: Only events that arrived at that time or later.
        sample: Only about so many events; the same ones each time.
    """

    type_field: str | None = None
    time_field: str | None = None
    since: dt.datetime | None = None
    sample: int | None = None


@dataclass(slots=True)
class Scanned:
    """What became of a scan.

    Attributes:
        deeper: Objects and lists that were too deep to be looked into.
        wide: Paths of objects whose keys are data.
        late: Those of them that were found when no new start was made any more: some of their keys have paths of their own.
    """

    deeper: int
    wide: list[str]
    late: list[str]


def scan(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[str],
    events: int,
    asked: Asked,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scanned:
    """Counts what is in the payloads of `files`, into the tables `seen` and `totals`.

    Args:
        connection: Where the tables are made; may spill.
        files: Absolute paths.
        events: How many rows they have.
        asked: What to look at.
        on_progress: Called with the events looked at so far, and all.
    """
    wide.prepare(connection)
    share = min(1.0, asked.sample / events) if asked.sample is not None and events else 1.0
    plan = list(batches(connection, files, share=share))
    late: list[str] = []
    for start in range(_MOST_STARTS):
        _prepare(connection)
        may_start_again = start < _MOST_STARTS - 1
        done = deeper = 0
        with contextlib.suppress(wide.WideObjects):
            for number, batch in enumerate(plan):
                deeper += _scan_batch(connection, batch, asked, share, None if may_start_again else late)
                done += batch.events
                on_progress(done, events)
                if number % _BATCHES_APART == _BATCHES_APART - 1:
                    _put_together(connection)
            _put_together(connection)
            break
    found = connection.execute("select path from wide order by path").fetchall()
    return Scanned(deeper, [str(path) for (path,) in found], late)


_SEEN = """
    day date, type varchar, path varchar, parent varchar, key varchar, in_list boolean, is_other boolean, kinds integer, events bigint,
    first_commit bigint, last_commit bigint, first_time timestamptz, last_time timestamptz
"""
_TOTALS = (
    "commit_version bigint, ingested_at timestamptz, day date, type varchar, state varchar, events bigint"
)


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"create or replace temp table seen ({_SEEN})")
    connection.execute(f"create or replace temp table totals ({_TOTALS})")
    connection.execute("create or replace temp table event_types (type varchar)")


def _put_together(connection: duckdb.DuckDBPyConnection) -> None:
    """Rows of several batches about the same become one."""
    connection.execute(
        "create or replace temp table seen as select day, type, path, parent, key, in_list, is_other, kinds, "
        "cast(sum(events) as bigint) as events, min(first_commit) as first_commit, max(last_commit) as last_commit, "
        "min(first_time) as first_time, max(last_time) as last_time from seen group by all"
    )
    connection.execute(
        "create or replace temp table totals as select commit_version, ingested_at, day, type, state, "
        "cast(sum(events) as bigint) as events from totals group by all"
    )


def _scan_batch(
    connection: duckdb.DuckDBPyConnection,
    batch: Batch,
    asked: Asked,
    share: float,
    late: list[str] | None,
) -> int:
    """Counts one batch.

    Returns:
        How many objects and lists were too deep.

    Raises:
        WideObjects: everything must be counted again, as there are objects whose keys are data; not if they may be found `late`.
    """
    for depth in range(1, DEEPEST + 1):
        connection.execute(f"drop table if exists containers_{depth}")
    _read_events(connection, batch, asked, share)
    connection.execute("create or replace temp table batch_seen as select * from seen limit 0")
    for depth in range(DEEPEST + 1):
        _count_level(connection, depth)
        new = _find_wide(connection) if depth else []
        if new:
            if late is None:
                raise wide.WideObjects
            late += new
            _count_level(connection, depth)
        connection.execute(
            "insert into batch_seen select groups.day, groups.type, level.path, level.parent, level.key, level.in_list, level.is_other, "
            "level.kinds, sum(level.events), min(groups.commit_version), max(groups.commit_version), min(level.first_time), "
            "max(level.last_time) from level join groups on level.group_number = groups.group_number group by all"
        )
        if not _go_deeper(connection, depth):
            connection.execute("insert into seen from batch_seen")
            return 0
    row = connection.execute(f"select count(*) from containers_{DEEPEST}").fetchone()
    connection.execute("insert into seen from batch_seen")
    return row[0] if row else 0


def _read_events(connection: duckdb.DuckDBPyConnection, batch: Batch, asked: Asked, share: float) -> None:
    """The table `events`, a row per event of the batch, and `groups`: what events have in common that are counted together."""
    conditions = ""
    if asked.since is not None:
        conditions += f" and ingested_at >= {quote_text(asked.since.isoformat())}::timestamptz"
    if share < 1:
        # A part of all hashes: the same events whatever else is there, and no order that values could follow.
        conditions += f" and hash(source_id, source_partition, source_offset) < {int(share * 2**64)}::ubigint"
    _, is_text = text_of_utf8("value")
    type_text = _text_at(asked.type_field)
    time = f"try_cast({_text_at(asked.time_field)} as timestamptz)" if asked.time_field else "event_time"
    day = f"cast({time} as date)" if asked.time_field else "ingest_date"
    connection.execute(
        "create or replace temp table events as select event, "
        # What events have in common that are counted together. Hashes rather than numbers: numbering is done by one thread alone, and
        # the chance that two of the hashes in a batch are equal is less than one in a hundred million.
        "hash(commit_version, ingested_at, day, full_type, state) as group_number, * from ("
        f"select event, commit_version, ingested_at, left({type_text}, {_LONGEST_TYPE}) as full_type, {time} as time, {day} as day, "
        f"case when value is null then 'null_value' when payload is not null then 'json' when {is_text} then 'not_json' "
        "else 'not_utf8' end as state, payload "
        "from (select hash(source_id, source_partition, source_offset) as event, value, commit_version, ingested_at, ingest_date, event_time, "
        f"{json_or_null('value')} as payload "
        f"{batch.source()}{conditions}))"
    )
    if asked.type_field is not None:
        connection.execute(
            "insert into event_types select full_type from events where full_type is not null and full_type not in (from event_types) "
            "group by full_type order by count(*) desc, full_type "
            f"limit greatest(0, {_MOST_TYPES} - (select count(*) from event_types))"
        )
    type_name = (
        "full_type"
        if asked.type_field is None
        else "case when full_type is null or full_type in (from event_types) then full_type "
        f"else {quote_text(OTHER_TYPES)} end"
    )
    connection.execute(
        "create or replace temp table groups as select group_number, commit_version, ingested_at, day, "
        f"{type_name} as type, state, count(*) as events from events group by all"
    )
    connection.execute(
        "insert into totals select commit_version, ingested_at, day, type, state, sum(events) from groups group by all"
    )


def _text_at(path: str | None) -> str:
    if path is None:
        return "cast(null as varchar)"
    json = quote_text("$." + json_path(keys_of(path)))
    return f"case when json_type(payload, {json}) = 'VARCHAR' then json_extract_string(payload, {json}) end"


def _children(connection: duckdb.DuckDBPyConnection, depth: int, *, only_containers: bool = False) -> str:
    """The query for what is at `depth`: in the objects and lists of the level above."""
    containers = "['OBJECT', 'ARRAY']"
    condition = (
        f"where in_list or list_has_any(json_type(value, '$.*'), {containers})" if only_containers else ""
    )
    # Lists, and not `json_each`: to join its rows with what they come from, DuckDB repeats an object's text for each of its keys, and an
    # object of a megabyte with 100,000 keys is 100 GB then.
    children = (
        "select event, group_number, time, path, in_list, is_wide, unnest(case when in_list then [] else json_keys(value) end) as key, "
        "unnest(case when in_list then json_type(value, '$[*]') else json_type(value, '$.*') end) as type, "
        "unnest(case when in_list then json_extract(value, '$[*]') else json_extract(value, '$.*') end) as value "
        f"from containers_{depth - 1} {condition}"
    )
    if not connection.execute("from wide limit 1").fetchall():  # a join less
        names, is_other = "", "false"
    else:
        names = "left join names on child.is_wide and names.path = child.path and names.key = child.key"
        is_other = "child.is_wide and names.key is null"
    return (
        f"select child.event, child.group_number, child.time, child.path as parent, child.in_list, {is_other} as is_other, "
        f"case when not child.in_list and not ({is_other}) then child.key end as key, child.type, child.value "
        f"from ({children}) as child {names}"
    )


def _count_level(connection: duckdb.DuckDBPyConnection, depth: int) -> None:
    """The table `level`: how many events have each path of this depth, by group and by the kinds of its values together."""
    if depth == 0:
        nodes = (
            "select event, group_number, time, '' as parent, false as in_list, false as is_other, cast(null as varchar) as key, "
            "json_type(payload) as type, payload as value from events where payload is not null"
        )
        path = "'$'"
    else:
        nodes = _children(connection, depth)
        path = child_path("parent", in_list="in_list", is_other="is_other", key="key")
    connection.execute(
        f"create or replace temp table level as select *, {path} as path from (select group_number, parent, in_list, is_other, key, "
        "kinds, count(*) as events, min(time) as first_time, max(time) as last_time from (select group_number, event, parent, in_list, "
        f"is_other, key, any_value(time) as time, bit_or({kind_bit('type', 'value')}) as kinds from ({nodes}) group by group_number, event, parent, "
        "in_list, is_other, key) group by all)"
    )


def _find_wide(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Objects with too many keys, of what is known up to this level of this batch."""
    found = (
        "select keys.parent, keys.key, keys.events, parents.events as objects from ("
        "  select parent, key, sum(events) as events from ("
        "    select parent, key, events from seen where key is not null "
        "    union all select parent, key, events from level where key is not null"
        "  ) where parent in (select parent from level) group by all"
        ") as keys join ("
        f"  select path, sum(events) as events from (from seen union all by name from batch_seen) where kinds & {bit('object')} > 0 "
        "  group by path"
        ") as parents on keys.parent = parents.path"
    )
    row = connection.execute(
        "select count(distinct path) from (from seen union all by name from batch_seen) "
        "where parent not in (select parent from level)"
    ).fetchone()
    return wide.find(connection, found, row[0] if row else 0)


def _go_deeper(connection: duckdb.DuckDBPyConnection, depth: int) -> bool:
    """The table `containers`: objects and lists of this depth that are not empty; whether there are any."""
    if depth == 0:
        connection.execute(
            "create or replace temp view containers_0 as select event, group_number, time, '$' as path, payload as value, "
            "json_type(payload) = 'ARRAY' as in_list, '$' in (from wide) as is_wide from events "
            "where json_type(payload) in ('OBJECT', 'ARRAY')"
        )
    else:
        path = child_path("parent", in_list="in_list", is_other="is_other", key="key")
        connection.execute(
            f"create or replace temp table containers_{depth} as select *, path in (from wide) as is_wide from (select event, group_number, "
            f"time, {path} as path, value, type = 'ARRAY' as in_list from ({_children(connection, depth, only_containers=True)}) where type in ('OBJECT', 'ARRAY'))"
        )
    row = connection.execute(
        f"select count(*) from level where kinds & {bit('object') + bit('list')} > 0"
    ).fetchone()
    return row is not None and row[0] > 0
