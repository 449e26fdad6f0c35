"""What a model must not say is refused when the project is read, with the reason and what to write instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.recompute.project import ProjectUnreadable, project_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recompute.place import Place

Node = dict[str, Any]


def by_ref(node: Node) -> None:
    """Reads a changing model directly."""
    node["raw_code"] = "select * from {{ ref('stg_orders') }}"


def by_ref_of_a_package(node: Node) -> None:
    """The same, with the name of the package before it."""
    node["raw_code"] = "select * from {{ ref('event_archive_warehouse', 'stg_orders') }}"


def of_event_level(node: Node) -> None:
    """A row per event, with something of what changes beside it."""
    node["config"]["meta"]["level"] = "event"
    node["depends_on"]["nodes"].append("model.event_archive_warehouse.stg_visits")


def another_strategy(node: Node) -> None:
    """Dbt's own."""
    node["config"]["incremental_strategy"] = "delete+insert"


def a_hook(node: Node) -> None:
    """After what the run has changed is noted."""
    node["config"]["post-hook"].append({"sql": "update {{ this }} set amount_cents = 0"})


def python(node: Node) -> None:
    """In another language."""
    node["language"] = "python"


BROKEN: dict[str, tuple[Callable[[Node], None], str]] = {
    "a ref": (
        by_ref,
        r"orders\.sql: orders reads stg_orders by ref\(\).* write history\('stg_orders'\) instead",
    ),
    "a ref of a package": (by_ref_of_a_package, r"orders reads stg_orders by ref\(\)"),
    "event level": (
        of_event_level,
        "orders is of event level and reads .*stg_visits.* Make it a model of entity",
    ),
    "another strategy": (
        another_strategy,
        r"orders has the incremental_strategy delete\+insert.* leave the setting out",
    ),
    "a hook": (a_hook, "orders has a post-hook; rows that it writes are noted nowhere"),
    "another language": (python, r"orders is written in python.*checked_by_hand: \['python'\]"),
}


def read_with(place: Place, folder: Path, change: Callable[[Node], None]) -> None:
    """Reads the project as it were with another text of one model."""
    manifest = json.loads((place.project / "target" / "manifest.json").read_text())
    change(manifest["nodes"]["model.event_archive_warehouse.orders"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    project_of(place.project, folder / "manifest.json")


@pytest.mark.parametrize("what", BROKEN)
def test_what_would_be_right_the_first_time_only_is_refused(
    what: str, built_shop: Place, tmp_path: Path
) -> None:
    """The sentence names the file, and says what to write."""
    change, says = BROKEN[what]
    read_with(built_shop, tmp_path, lambda _: None)
    with pytest.raises(ProjectUnreadable, match=says):
        read_with(built_shop, tmp_path, change)


@pytest.mark.parametrize(("change", "name"), [(a_hook, "post-hook"), (python, "python")])
def test_what_somebody_has_looked_at_is_let_pass(
    change: Callable[[Node], None], name: str, built_shop: Place, tmp_path: Path
) -> None:
    """A hook may do no more than make an index."""

    def checked(node: Node) -> None:
        change(node)
        node["config"]["meta"]["checked_by_hand"] = [name]

    read_with(built_shop, tmp_path, checked)
