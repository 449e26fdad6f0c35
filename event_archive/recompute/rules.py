"""What a model must not say, since its rows would be right when computed in full and wrong afterwards: refused when the project is read.

What doesn't live here: what must not be in the SQL that dbt makes of it (`determinism`, `plain_views`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from event_archive.recompute.manifest import ProjectUnreadable
from event_archive.warehouse.kept_digests import RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from event_archive.recompute.code import Code
    from event_archive.recompute.project import Model

_DIRECT_REF = re.compile(r"\bref\(\s*(?:['\"]\w+['\"]\s*,\s*)?['\"](\w+)['\"]")
_STRATEGY = "by_commit"
_HOOKS = ("pre-hook", "post-hook")


def refuse_broken_rules(nodes: Sequence[Mapping[str, Any]], models: Mapping[str, Model], code: Code) -> None:
    """Look at each model.

    Args:
        nodes: The models, as dbt's manifest has them.
        models: The same, by name.
        code: What their code is.

    Raises:
        ProjectUnreadable: One breaks a rule; the text says which, why, and what to write instead.
    """
    changing = {name for name in models if _changes(models, name)}
    aliases = {node["name"]: node["alias"] for node in nodes}
    for node in nodes:
        model = models[node["alias"]]
        broken = [*_of_any_model(node, model, code)]
        if model.materialized == "incremental":
            broken += [*_of_incremental_models(node, model, aliases, changing)]
        if broken:
            raise ProjectUnreadable(f"{node['original_file_path']}: {broken[0]}")


def _changes(models: Mapping[str, Model], name: str) -> bool:
    model = models[name]
    return bool(model.streams) or any(_changes(models, name) for name in model.inputs)


def _of_any_model(node: Mapping[str, Any], model: Model, code: Code) -> Iterator[str]:
    if node["alias"] in RECORDS and node["schema"] == "main":
        yield f"a table {node['alias']} is part of each build's own record: give the model another name."
    used = [name for name in code.surroundings_of_model(node) if name not in model.checked_by_hand]
    if used:
        # With another environment, or at another time, the same text would be another query, and nobody would notice.
        yield (
            f"{model.name} uses {', '.join(used)}, so that its rows would depend on where or when they are computed; "
            f"use a `var` of dbt_project.yml. {_by_hand(used[0])}"
        )
    if node.get("language", "sql") != "sql" and node["language"] not in model.checked_by_hand:
        yield (
            f"{model.name} is written in {node['language']}, of which nobody can tell whether its rows depend on more than the events; "
            f"write it in SQL. {_by_hand(node['language'], in_yml=True)}"
        )


def _of_incremental_models(
    node: Mapping[str, Any], model: Model, aliases: Mapping[str, str], changing: set[str]
) -> Iterator[str]:
    strategy = node["config"].get("incremental_strategy")
    if strategy not in (None, _STRATEGY):
        yield (
            f"{model.name} has the incremental_strategy {strategy}, which doesn't note what it has changed, and leaves what is gone; "
            f"leave the setting out: it is {_STRATEGY}."
        )
    for hook in _HOOKS:
        if len(node["config"].get(hook) or ()) > 1 and hook not in model.checked_by_hand:  # one is ours
            yield (
                f"{model.name} has a {hook}; rows that it writes are noted nowhere, so that those who read the model would not see them. "
                f"{_by_hand(hook)}"
            )
    for name in _DIRECT_REF.findall(node["raw_code"]):
        if aliases.get(name) in changing:
            yield (
                f"{model.name} reads {name} by ref(), and would not see which of its rows have "
                f"changed; write history('{name}') instead, which gives the rows of the keys that have."
            )
    reads = [*model.streams, *(name for name in model.inputs if name in changing)]
    if model.level == "event" and len(reads) > 1:
        yield (
            f"{model.name} is of event level and reads {' and '.join(reads)}: a row would not change any more when the other does. "
            "Make it a model of entity level, which reads each by history()."
        )


def _by_hand(what: str, *, in_yml: bool = False) -> str:
    where = "the model's .yml, meta" if in_yml else "the model"
    said = f"{{checked_by_hand: ['{what}']}}" if in_yml else f"config(meta={{'checked_by_hand': ['{what}']}})"
    return f"Where it does no harm, say so in {where}: {said}."
