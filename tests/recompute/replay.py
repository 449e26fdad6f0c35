"""A warehouse in memory that is filled by the statements that dbt would send.

What doesn't live here: where the statements come from (`statements`), and what happens to the warehouse (`histories`).

The database is called `current`, as a build's is, and the archive is seen through views of the shape that the plugin `archive_views` gives
them. One connection serves all histories, and each statement is parsed once.

What a history costs is DuckDB's planning: a run of all models sends some 200 statements, most of which plan for a millisecond and work for
a tenth of that; the two decoding models take 20 and 40 ms. So histories are few runs over few events.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb

from event_archive.recompute.prepare import clear_asked, prune_change_logs
from event_archive.sql.views import ENVELOPE_TYPES, json_or_null
from event_archive.warehouse.kept_digests import digest_marts
from event_archive.warehouse.record import MartRecord
from event_archive.warehouse.record_tables import write_marts
from tests.recompute.archived import Positions
from tests.recompute.histories import STREAMS, Backfill, Commit, Compact, Refresh

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.recompute.histories import Event, History
    from tests.recompute.statements import ModelStatements, Statements

Contents = dict[str, Counter[str]]
"""Of each relation the rows, as texts, and how often each is there."""

ALL = Refresh()

_ENVELOPE = ", ".join(f'"{name}"' for name in ENVELOPE_TYPES)


@dataclass
class ReplayedWarehouse:
    """An archive and the tables that are made of it, both in memory."""

    statements: Statements
    connection: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)
    streams: Sequence[str] = STREAMS
    keeps_digests: bool = False
    is_optimised: bool = True
    """Whether DuckDB optimises its plans; without, a history takes a quarter less."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of each mart, as the last refresh has made it; if digests are kept."""
    _positions: Positions = field(default_factory=Positions)
    _parsed: dict[str, list[duckdb.Statement]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connection.execute(
            "set timezone = 'UTC'; set threads = 1; set preserve_insertion_order = false; set enable_progress_bar = false"
        )
        if not self.is_optimised:
            self.connection.execute("pragma disable_optimizer")
        self.connection.execute("attach ':memory:' as event_archive")
        for schema in ("archive", "recent", "files"):
            self.connection.execute(f"create schema event_archive.{schema}")
        self.connection.execute(
            "create table event_archive.archive.pinned_snapshot (stream varchar, version bigint, recent_from bigint)"
        )
        columns = ", ".join(f'"{name}" {kind}' for name, kind in ENVELOPE_TYPES.items())
        for stream in self.streams:
            rows = f"event_archive.files.{stream}"
            pinned = f"from event_archive.archive.pinned_snapshot where stream = '{stream}'"
            seen = (
                f"select {_ENVELOPE}, payload from {rows} where commit_version <= (select version {pinned})"
            )
            beyond = f"select file from {rows} where commit_version > (select recent_from {pinned})"
            self.connection.execute(f"create table {rows} ({columns}, payload json, file bigint)")
            self.connection.execute(f"create view event_archive.archive.{stream} as {seen}")
            self.connection.execute(
                f"create view event_archive.recent.{stream} as {seen} and file in ({beyond})"
            )
        self.throw_away()

    def throw_away(self) -> None:
        """Forgets all tables, but not the archive."""
        for statement in (
            "use memory",
            "detach database if exists current",
            "attach ':memory:' as current",
            "use current",
        ):
            self.connection.execute(statement)

    def play(self, history: History) -> None:
        """Begins anew, and lets a history happen.

        Args:
            history: Ends as it ends; what is still new then stays so.
        """
        self.throw_away()
        self.digests = {}
        self._positions = Positions()
        for stream in self.streams:
            self.connection.execute(f"delete from event_archive.files.{stream}")
        for step in history:
            if isinstance(step, Commit):
                self.commit(step.stream, step.events)
            elif isinstance(step, Compact):
                self.connection.execute(f"update event_archive.files.{step.stream} set file = -1")
            elif isinstance(step, Backfill):
                self.compute_again(step)
            else:
                self.refresh(step)

    def turn_archive_around(self) -> None:
        """Gives the rows of the archive another order, as compaction may: no result may depend on it."""
        for stream in self.streams:
            rows = f"event_archive.files.{stream}"
            self.connection.execute(f"create or replace temp table turned as from {rows} order by rowid desc")
            self.connection.execute(f"delete from {rows}")
            self.connection.execute(f"insert into {rows} from turned")

    def commit(self, stream: str, events: Sequence[Event]) -> None:
        """Archives events: one commit, one file."""
        events_of_commit = self._positions.rows(stream, events)
        self.connection.execute(
            f"insert into event_archive.files.{stream} "
            f"select {_ENVELOPE}, {json_or_null('value')}, commit_version from events_of_commit"
        )
        del events_of_commit

    def refresh(self, refresh: Refresh = ALL) -> None:
        """Does what the product does for a refresh: plans, runs dbt on a copy, and throws that away if it isn't to be published."""
        # Digests are kept by the product alone, and that throws away what has died.
        is_thrown_away = refresh.is_thrown_away or (self.keeps_digests and refresh.killed_after is not None)
        if is_thrown_away:
            self.connection.execute("attach ':memory:' as kept; copy from database current to kept")
        self._pin()
        for statement in self.statements.at_start:
            self._execute(statement)
        clear_asked(self.connection)
        prune_change_logs(self.connection)
        self._run(refresh)
        if is_thrown_away:
            self.throw_away()
            self.connection.execute("copy from database kept to current; detach kept")
        elif self.keeps_digests:
            self.digests = self._digest()

    def compute_again(self, asked: Backfill) -> None:
        """Does what the product does for a range of days, or of commits."""
        self._pin()
        for statement in self.statements.at_start:
            self._execute(statement)
        clear_asked(self.connection)
        prune_change_logs(self.connection)
        models = [
            model for model in self.statements.models if (model.of_days if asked.days else model.of_commits)
        ]
        there = self._there()
        if not all(model.name in there and self._goes_on(model) for model in self.statements.models):
            return  # that is for the next refresh
        if asked.days:
            self.connection.execute("insert into meta.asked_days values (?, ?)", list(asked.days))
        else:
            for stream in self.streams:
                self.connection.execute(
                    "insert into meta.asked_commits values (?, ?, ?)", [stream, *asked.commits]
                )
        for model in models:
            for statement in model.of_days if asked.days else model.of_commits:
                self._execute(statement)
            self.connection.execute(f'drop table if exists temp."{model.name}__dbt_tmp"')
        if self.keeps_digests:
            self.digests = self._digest()

    def _run(self, refresh: Refresh) -> None:
        there = self._there()
        stale = self.statements.selected(f"{name}+" for name in refresh.stale if name in there)
        for name in stale:
            self.connection.execute("insert into meta.stale values (?, 'its code has changed')", [name])
        models = [*_ordered(self.statements.models, refresh.order)]
        if refresh.select:
            selected = self.statements.selected(refresh.select)
            models = [model for model in models if model.name in selected]
        elif not refresh.in_full:
            models = [*self._with_work(models, there, stale)]
        last = len(models) if refresh.killed_after is None else int(refresh.killed_after * len(models))
        for number, model in enumerate(models):
            if not there.issuperset(model.inputs):
                continue  # dbt would fail here, and skip what depends on it
            statements = self._due(model, there, in_full=refresh.in_full)
            if number == last:
                assert refresh.killed_after is not None
                self._die_in(statements, refresh.killed_after * len(models) - last)
                return
            for statement in statements:
                self._execute(statement)
            self.connection.execute(f'drop table if exists temp."{model.name}__dbt_tmp"')
            there.add(model.name)

    def _with_work(
        self, models: Sequence[ModelStatements], there: set[str], stale: frozenset[str]
    ) -> Iterator[ModelStatements]:
        """Models that aren't there, are stale or behind, or read what has something new: a plan names no others."""
        behind = self.connection.execute(
            "select inputs.model from meta.inputs as inputs inner join meta.models as read on read.model = inputs.input "
            "where inputs.version < read.version union all select model from meta.watermarks "
            "inner join event_archive.archive.pinned_snapshot as pinned using (stream) where commit_version < pinned.version"
        ).fetchall()
        found = {name for (name,) in behind} | stale
        for model in models:
            if model.name not in there or model.name in found or not found.isdisjoint(model.inputs):
                found.add(model.name)
                yield model

    def _digest(self) -> dict[str, str]:
        """The marts' digests, made from the last ones where that can be done; they are noted for the next."""
        digests = digest_marts(self.connection, {model.name: "its code" for model in self.statements.models})
        marts = [
            MartRecord(kept.mart, kept.sums.rows, kept.digest, kept.level, kept.key, (), kept.code_hash)
            for kept in digests
        ]
        write_marts(self.connection, marts, digests)
        return {kept.mart: kept.digest for kept in digests}

    def _due(self, model: ModelStatements, there: set[str], *, in_full: bool) -> tuple[str, ...]:
        """What dbt sends for a model as things are."""
        if model.name not in there:
            return model.first
        return model.incremental if self._goes_on(model) and not in_full else model.in_full

    def _goes_on(self, model: ModelStatements) -> bool:
        """Whether an incremental run computes only what has changed of a model."""
        return not model.must_be_in_full or self.connection.execute(model.must_be_in_full).fetchone() is None

    def _die_in(self, statements: tuple[str, ...], share: float) -> None:
        """Executes a part of what stands before the commit; the power that is gone then takes back what wasn't committed."""
        before_commit = statements[: statements.index("COMMIT")]
        done = before_commit[: 1 + int(share * len(before_commit))]
        for statement in done:
            self._execute(statement)
        if "BEGIN" in done:
            self.connection.execute("rollback")
        for (name,) in self.connection.execute(
            "select table_name from duckdb_tables() where temporary"
        ).fetchall():
            self.connection.execute(f'drop table temp."{name}"')

    def _there(self) -> set[str]:
        """Names of the models that are there."""
        names = self.connection.execute(
            "select table_name from duckdb_tables() where database_name = 'current' "
            "union all select view_name from duckdb_views() where database_name = 'current' and not internal"
        ).fetchall()
        return {name for (name,) in names}

    def _pin(self) -> None:
        """From here on, the build sees what the archive holds now; of that, what it hasn't consumed is recent."""
        self.connection.execute("delete from event_archive.archive.pinned_snapshot")
        has_watermarks = self.connection.execute(
            "select 1 from duckdb_tables() where database_name = 'current' and table_name = 'watermarks'"
        ).fetchone()
        consumed = (
            "(select coalesce(min(commit_version), -1) from meta.watermarks where stream = ?)"
            if has_watermarks
            else "-1"
        )
        for stream in self.streams:
            self.connection.execute(
                f"insert into event_archive.archive.pinned_snapshot values (?, ?, {consumed})",
                [stream, self._positions.commits[stream] - 1, *([stream] if has_watermarks else [])],
            )

    def contents(self) -> Contents:
        """All rows of all relations."""
        return contents(self.connection, (model.relation for model in self.statements.models))

    def _execute(self, text: str) -> None:
        parsed = self._parsed.get(text)
        if parsed is None:
            parsed = self._parsed[text] = self.connection.extract_statements(text)
        for statement in parsed:
            self.connection.execute(statement)


def contents(connection: duckdb.DuckDBPyConnection, relations: Iterable[str]) -> Contents:
    """All rows of some relations of the database `current`."""
    return {
        relation: Counter(map(repr, connection.execute(f"from current.{relation}").fetchall()))
        for relation in relations
    }


def differences(one: Contents, other: Contents) -> dict[str, tuple[list[str], list[str]]]:
    """Of each relation that differs, the rows that are in the one only, and in the other only."""
    return {
        name: (sorted((one[name] - other[name]).elements()), sorted((other[name] - one[name]).elements()))
        for name in one | other
        if one[name] != other[name]
    }


def _ordered(models: Sequence[ModelStatements], order: int) -> Iterator[ModelStatements]:
    """The models in one of the orders in which each comes after what it reads."""
    if order == 0:
        yield from models
        return
    rng = random.Random(order)
    waiting = [(rng.random(), model) for model in models]
    done: set[str] = set()
    while waiting:
        ready = [(rank, model) for rank, model in waiting if done.issuperset(model.inputs)]
        chosen = min(ready, key=lambda ranked: ranked[0])
        waiting.remove(chosen)
        done.add(chosen[1].name)
        yield chosen[1]
