"""What dbt knows of its project, as Dagster needs it: the manifest with each test attached to one model.

What doesn't live here: making the manifest (`event_archive.recompute.project`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from event_archive.recompute.project import ProjectUnreadable, manifest_of
from orchestration.days import DayTable


def load_manifest(project: Path) -> dict[str, Any]:
    """Read the project's manifest, with each test attached to a model.

    dagster-dbt shows a test of a single model as that model's check, but would hide a test over several models that doesn't say in its
    meta where it belongs. It is attached to the model that it names last.

    Raises:
        dagster.DagsterInvalidDefinitionError: dbt can't parse the project; the text is dbt's.
    """
    try:
        manifest: dict[str, Any] = json.loads(manifest_of(project).read_bytes())
    except ProjectUnreadable as error:
        raise dg.DagsterInvalidDefinitionError(str(error)) from error
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and not node.get("attached_node") and node["refs"]:
            name = node["refs"][-1]["name"]
            node["config"]["meta"].setdefault("dagster", {}).setdefault("ref", {"name": name})
    return manifest


def day_tables(manifest: Mapping[str, Any]) -> dict[str, DayTable]:
    """Name the models of which a row is about a day."""
    found: dict[str, DayTable] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model" and is_of_day_level(node):
            key = node["config"].get("unique_key")
            columns = key if isinstance(key, list) else [key]
            if columns[:1] and columns[0]:  # else dbt refuses the model
                found[node["alias"]] = DayTable(node["schema"], node["alias"], str(columns[0]))
    return found


def is_of_day_level(node: Mapping[str, Any]) -> bool:
    """Whether a row of this model is about a day, as the model says."""
    return bool(node["config"].get("meta", {}).get("level") == "day")
