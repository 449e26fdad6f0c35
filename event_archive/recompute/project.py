"""The dbt project as a recompute needs it: its models, what each reads, and what code each is made by.

What doesn't live here: asking dbt for its manifest (`manifest`), what counts as code (`code`), what a model must not say (`rules`), what has to run (`plan`),
and running it (`dbt`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from event_archive.recompute.code import Code
from event_archive.recompute.manifest import ProjectUnreadable, manifest_of
from event_archive.recompute.rules import refuse_broken_rules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Check",
    "Model",
    "Project",
    "ProjectUnreadable",
    "manifest_of",
    "project_of",
    "read_project",
    "state_hashes",
]

NOT_TABLES = ("view", "ephemeral")
"""Kinds of models that hold no rows: they are looked through."""


@dataclass(frozen=True)
class Model:
    """A model of the project.

    Attributes:
        name: Its name.
        unique_id: dbt's name for it.
        schema: Schema of its table or view.
        materialized: view, table or incremental.
        level: event, entity or day; None if it doesn't say.
        key: Columns that make an entity or a day.
        grain: Columns of which a test says that they are unique together; empty if none does.
        streams: Streams that it reads itself.
        inputs: Models that it reads itself.
        own_hash: SHA-256 of its code: its text, configuration, contract, and the macros that it uses.
        checked_by_hand: What it uses although rows may come to depend on it; see `determinism`.
    """

    name: str
    unique_id: str
    schema: str
    materialized: str
    level: str | None
    key: tuple[str, ...]
    grain: tuple[str, ...]
    streams: tuple[str, ...]
    inputs: tuple[str, ...]
    own_hash: str
    checked_by_hand: tuple[str, ...] = ()

    @property
    def selector(self) -> str:
        """How dbt is told to take this model; its table may have another name (`alias`)."""
        return f"fqn:{'.'.join(self.unique_id.split('.')[2:])}"


@dataclass(frozen=True)
class Check:
    """A data test or a unit test of the project.

    Attributes:
        unique_id: dbt's name for it.
        inputs: Models that it reads.
        own_hash: SHA-256 of its code.
    """

    unique_id: str
    inputs: tuple[str, ...]
    own_hash: str

    @property
    def is_unit_test(self) -> bool:
        """Whether it is of the code alone: it brings its own rows."""
        return self.unique_id.startswith("unit_test.")


@dataclass(frozen=True)
class Project:
    """A dbt project; its models by name, each after those that it reads, and its checks by dbt's names for them."""

    folder: Path
    models: Mapping[str, Model]
    checks: Mapping[str, Check] = field(default_factory=dict)

    def state_hashes(self) -> dict[str, str]:
        """For each model one hash of its own code and of all that it is made of: it differs when any of that has changed."""
        return state_hashes(self, {})

    def streams_of(self, name: str) -> set[str]:
        """The streams that a model is made of, directly or not."""
        model = self.models[name]
        return set(model.streams).union(*(self.streams_of(name) for name in model.inputs))

    def tables_behind(self, name: str) -> set[str]:
        """The tables whose rows a model gives: itself, or for a view what it reads."""
        model = self.models[name]
        if model.materialized not in NOT_TABLES:
            return {name}
        return set().union(*(self.tables_behind(name) for name in model.inputs))


def state_hashes(project: Project, not_run: Mapping[str, str]) -> dict[str, str]:
    """The hashes that describe the tables after a run.

    Args:
        project: The project.
        not_run: Models that the run didn't build, with the hashes of what is there of them.
    """
    hashes = dict(not_run)
    for model in project.models.values():
        if model.name not in not_run:
            made_of = [model.own_hash, *(f"{name} {hashes.get(name, '')}" for name in sorted(model.inputs))]
            hashes[model.name] = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
    return hashes


def read_project(folder: Path) -> Project:
    """Read a dbt project.

    Raises:
        ProjectUnreadable: There is none, dbt can't parse it (the text is dbt's), or a model breaks a rule.
    """
    if not (folder / "dbt_project.yml").is_file():
        raise ProjectUnreadable(
            f"{folder} holds no dbt project; name its folder as `dbt_project` in the configuration, or make one with "
            "`event-archive scaffold`."
        )
    return project_of(folder, manifest_of(folder))


def project_of(folder: Path, manifest_file: Path) -> Project:
    """Read a dbt project as a manifest has it.

    Args:
        folder: The project.
        manifest_file: What dbt wrote of it.

    Raises:
        ProjectUnreadable: A model breaks a rule.
    """
    manifest = json.loads(manifest_file.read_bytes())
    variables = (yaml.safe_load((folder / "dbt_project.yml").read_bytes()) or {}).get("vars")
    code = Code(manifest["macros"], variables)
    return Project(folder, _models(manifest, code), _checks(manifest, code))


def _models(manifest: Mapping[str, Any], code: Code) -> dict[str, Model]:
    nodes = {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in ("model", "seed", "snapshot")
    }
    grains = _grains(manifest)
    found: dict[str, Model] = {}

    def add(unique_id: str) -> None:
        node = nodes[unique_id]
        before = found.get(node["alias"])
        if before is not None and before.unique_id == unique_id:
            return
        if before is not None:
            raise ProjectUnreadable(
                f"{before.unique_id} and {unique_id} make tables of one name, {node['alias']}: give one of them another `alias`."
            )
        reads = node.get("depends_on", {}).get("nodes", [])
        for parent in reads:
            if parent in nodes:
                add(parent)
        key = node["config"].get("unique_key") or []
        found[node["alias"]] = Model(
            name=node["alias"],
            unique_id=unique_id,
            schema=node["schema"],
            materialized=node["config"]["materialized"],
            level=node["config"].get("meta", {}).get("level"),
            key=(key,) if isinstance(key, str) else tuple(key),
            grain=grains.get(unique_id, ()),
            streams=tuple(
                manifest["sources"][name]["identifier"] for name in reads if name in manifest["sources"]
            ),
            inputs=tuple(nodes[name]["alias"] for name in reads if name in nodes),
            own_hash=code.hash_of_model(node),
            checked_by_hand=tuple(node["config"].get("meta", {}).get("checked_by_hand", ())),
        )

    for unique_id in nodes:
        add(unique_id)
    refuse_broken_rules(list(nodes.values()), found, code)
    return found


def _checks(manifest: Mapping[str, Any], code: Code) -> dict[str, Check]:
    """The project's data tests and unit tests."""
    nodes = manifest["nodes"]
    tests = {name: node for name, node in nodes.items() if node["resource_type"] == "test"}
    hashes = {
        **{name: code.hash_of_data_test(node) for name, node in tests.items()},
        **{name: code.hash_of_unit_test(node) for name, node in manifest["unit_tests"].items()},
    }
    return {
        unique_id: Check(
            unique_id,
            tuple(nodes[name]["alias"] for name in node["depends_on"]["nodes"] if name in nodes),
            hashes[unique_id],
        )
        for unique_id, node in (*tests.items(), *manifest["unit_tests"].items())
    }


def _grains(manifest: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Which columns are unique together, as the project's tests say."""
    grains: dict[str, tuple[str, ...]] = {}
    for node in manifest["nodes"].values():
        test = node.get("test_metadata")
        if node["resource_type"] != "test" or test is None or not node.get("attached_node"):
            continue
        if test["name"] == "unique" and node.get("column_name"):
            grains[node["attached_node"]] = (node["column_name"],)
        elif test["name"] in ("unique_combination", "unique_combination_of_columns"):
            columns = test["kwargs"].get("columns") or test["kwargs"].get("combination_of_columns") or ()
            grains.setdefault(node["attached_node"], tuple(columns))
    return grains
