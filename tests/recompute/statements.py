"""The very SQL that dbt sends for each model, noted once, so that hundreds of histories can be played without dbt.

What doesn't live here: running dbt (`real_dbt`), playing the statements in memory (`replay`), and what is played (`histories`).

dbt takes seconds to start, and what it sends does not depend on what is in the archive (`test_statements` holds it to that). So it is run a few
times over a tiny archive, and each statement is taken from dbt's own event `SQLQuery`: hooks, transactions, temporary tables, deletes and
inserts as they are. Left out is what can't change a row: questions to the catalog, the comparison with a contract, comments on columns.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from event_archive.recompute.prepare import clear_asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.recompute.real_dbt import Dbt, ParquetArchive

# dbt says in a comment before each statement who sent it, and names temporary tables after the time and the thread.
_QUERY_COMMENT = re.compile(r"^\s*/\* \{.*?\} \*/\s*", re.DOTALL)
_MOMENT = re.compile(r"(__dbt_tmp)_?\d{8,}\w*")
_CHANGES_NOTHING = re.compile(r"(--[^\n]*\n\s*)*(select|with|from|describe|comment\s+on)\b", re.IGNORECASE)
_WHETHER_IN_FULL = "from meta.stale where"


@dataclass(frozen=True)
class ModelStatements:
    """What dbt sends for one model, in order, by what it finds."""

    name: str
    schema: str
    materialized: str
    inputs: tuple[str, ...]
    """Models that it refers to."""
    first: tuple[str, ...]
    """There is nothing of it yet."""
    in_full: tuple[str, ...]
    """It is there, and is computed in full."""
    incremental: tuple[str, ...]
    """It is there, and goes on from there."""
    of_days: tuple[str, ...]
    """A range of days of it was asked for; empty if that can't be."""
    of_commits: tuple[str, ...]
    """The entities of a range of commits were asked for; empty if that can't be."""
    must_be_in_full: str
    """What it asks before: it is computed in full if the answer has a row. Empty: it doesn't ask."""

    @property
    def relation(self) -> str:
        """Its name with its schema."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Statements:
    """What dbt sends for a whole project."""

    at_start: tuple[str, ...]
    """Before the first model: schemas, and what on-run-start says."""
    models: tuple[ModelStatements, ...]
    """In an order in which each comes after its inputs."""

    def selected(self, selectors: Iterable[str]) -> frozenset[str]:
        """Names of the models that `--select` would give: `carts`, `+carts` with its ancestors, `carts+` with its descendants."""
        inputs = {model.name: model.inputs for model in self.models}
        found: set[str] = set()
        for selector in selectors:
            name = selector.strip("+")
            assert name in inputs, name
            found.add(name)
            if selector.startswith("+"):
                found |= _reachable(name, inputs)
            if selector.endswith("+"):
                found |= {other for other in inputs if name in _reachable(other, inputs)}
        return frozenset(found)

    def only(self, names: Iterable[str]) -> Statements:
        """The same for some models; what they read must be among them."""
        kept = frozenset(names)
        return Statements(self.at_start, tuple(model for model in self.models if model.name in kept))

    def to_json(self) -> str:
        """Writes it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Statements:
        """Reads what `to_json` wrote."""
        read = json.loads(text)
        models: list[dict[str, Any]] = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in model.items()}
            for model in read["models"]
        ]
        return cls(tuple(read["at_start"]), tuple(ModelStatements(**model) for model in models))


def noted(dbt: Dbt, archive: ParquetArchive) -> Statements:
    """Runs dbt in each way in which a model can be computed, and notes what it sends.

    Args:
        dbt: The project, and an empty warehouse.
        archive: Gets another commit of each stream before each of the first three runs.
    """
    runs = []
    for arguments in (["run"], ["run"], ["run", "--full-refresh"]):
        for stream in archive.streams:
            archive.commit_values(stream, [b"{}"])
        runs.append(sent(dbt, arguments, archive))
    first, incremental, in_full = runs
    with dbt.connect() as connection:
        connection.execute("insert into meta.asked_days values ('2013-03-01', '2013-03-02')")
    of_days = sent(dbt, ["run", "--select", "config.meta.level:day"], archive)
    with dbt.connect() as connection:
        clear_asked(connection)
        for stream in archive.streams:
            connection.execute("insert into meta.asked_commits values (?, 0, 1)", [stream])
    of_commits = sent(dbt, ["run", "--exclude", "config.meta.level:event"], archive)
    nodes = dbt.models()
    return Statements(
        at_start=tuple(first.before_models),
        models=tuple(
            ModelStatements(
                name=nodes[node_id].alias,
                schema=nodes[node_id].schema,
                materialized=nodes[node_id].config.materialized,
                inputs=tuple(
                    nodes[input_id].alias for input_id in nodes[node_id].depends_on.nodes if input_id in nodes
                ),
                first=tuple(first.of_models[node_id]),
                in_full=tuple(in_full.of_models[node_id]),
                incremental=tuple(incremental.of_models[node_id]),
                of_days=tuple(of_days.of_models.get(node_id, [])),
                of_commits=tuple(of_commits.of_models.get(node_id, [])),
                must_be_in_full=incremental.whether_in_full.get(node_id, ""),
            )
            for node_id in first.of_models  # with one thread, dbt runs one after the other
        ),
    )


@dataclass(frozen=True)
class Sent:
    """What one run of dbt has sent."""

    before_models: list[str]
    of_models: dict[str, list[str]]
    """By the id of the model's node, in the order in which they were run."""
    whether_in_full: dict[str, str]


def sent(dbt: Dbt, arguments: Sequence[str], archive: ParquetArchive) -> Sent:
    """Runs dbt with one thread, and notes what it sends."""
    found = Sent([], defaultdict(list), {})

    def note(event: Any) -> None:
        if event.info.name != "SQLQuery":
            return
        node_id = event.data.node_info.unique_id
        text = normalised(event.data.sql)
        if not node_id and not text.startswith("create schema"):
            return  # dbt looks around before it begins
        if not node_id.startswith("model."):
            if not _CHANGES_NOTHING.match(text):
                found.before_models.append(text)
        elif _WHETHER_IN_FULL in text and text.startswith("select"):
            found.whether_in_full[node_id] = text
        elif not _CHANGES_NOTHING.match(text):
            found.of_models[node_id].append(text)

    assert dbt.run(*arguments, snapshot=archive.snapshot(), callbacks=[note]) == []
    return found


def normalised(text: str) -> str:
    """A statement as dbt sends it, without what differs from run to run."""
    return _MOMENT.sub(r"\1", _QUERY_COMMENT.sub("", text)).strip()


def _reachable(name: str, inputs: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    waiting = [*inputs[name]]
    while waiting:
        if (ancestor := waiting.pop()) not in found:
            found.add(ancestor)
            waiting += inputs[ancestor]
    return found
