"""What can be asked of a recompute, whether it goes together, and what dbt is told to do for it.

What doesn't live here: doing it (`run`), and what is new or stale (`plan`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import UsageError

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from event_archive.recompute.plan import Plan
    from event_archive.recompute.project import Project


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        is_rebuild: Compute in full, instead of adding what is new.
        select: dbt's selection, such as `carts`, `+carts` or `carts+`; empty for everything.
        as_of: Of which past state of the archive; see `pin_as_of`. None: as it is now.
        into: A file for the result, instead of the warehouse.
        days: Only these days (first and last) of the selected day level models.
        ingested: Only what the events that were archived on these days (first and last) have a part in.
    """

    is_rebuild: bool = False
    select: tuple[str, ...] = ()
    as_of: str | None = None
    into: Path | None = None
    days: tuple[date, date] | None = None
    ingested: tuple[date, date] | None = None

    @property
    def is_range(self) -> bool:
        """Whether only a range is asked for, in tables that stay."""
        return self.days is not None or self.ingested is not None

    @property
    def is_aside(self) -> bool:
        """Whether the result isn't meant to be the next published build."""
        return self.as_of is not None or self.into is not None

    @property
    def starts_empty(self) -> bool:
        """Whether nothing of the published tables is gone on from."""
        return self.is_rebuild and (self.is_aside or not (self.select or self.is_range))


def check_request(request: Request, project: Project) -> None:
    """Refuse what doesn't go together, before anything is started.

    Raises:
        UsageError: It doesn't, or a model can't be computed for a range.
    """
    if request.into is not None and request.into.exists():
        raise UsageError(f"{request.into} exists already, and no file is ever replaced; name another one.")
    if request.into is not None and not request.into.absolute().parent.is_dir():
        raise UsageError(
            f"{request.into}: there is no folder {request.into.parent}; make it, or name another one."
        )
    if not request.is_range:
        return
    if request.is_aside or not request.is_rebuild:
        raise UsageError(
            "A range can only be computed again in the tables as they are: without --as-of and --into."
        )
    if request.days is not None and request.ingested is not None:
        raise UsageError("Ask for a range of days or of ingest days, not for both.")
    models_of_range(request, project)


def models_of_range(request: Request, project: Project) -> tuple[str, ...]:
    """Name the models of which a range is computed again.

    Raises:
        UsageError: One that is asked for can't be.
    """
    levels = ("day",) if request.days is not None else ("entity", "day")
    able = tuple(
        model.name
        for model in project.models.values()
        if model.level in levels and model.materialized == "incremental"
    )
    for name in request.select:
        if name not in able:
            what = "days" if request.days is not None else "ingest days"
            raise UsageError(
                f"{name!r} can't be computed for a range of {what}; these can: {', '.join(able) or 'none'}."
            )
    return request.select or able


def dbt_arguments(
    request: Request, project: Project, plan: Plan, *, runs_unit_tests: bool = True
) -> list[str]:
    """What dbt is told to do; nothing at all if no model has to be computed.

    A refresh names the models that have anything to do: dbt's own overhead for each of the others would be more than all the rest.

    Args:
        request: What is asked for.
        project: The models.
        plan: What has to be done.
        runs_unit_tests: Whether unit tests are run too.
    """
    selected = _selection(request, project, plan)
    if selected is None:
        return []
    return ["build", *([] if runs_unit_tests else ["--exclude-resource-type", "unit_test"]), *selected]


def _selection(request: Request, project: Project, plan: Plan) -> list[str] | None:
    """Options by which dbt knows the models; None if there are none."""
    if request.is_range:
        with_inputs = "" if request.days is not None else "+"
        names = [
            f"{with_inputs}{project.models[name].selector}" for name in models_of_range(request, project)
        ]
        return ["--select", *names, "--exclude", "config.meta.level:event"]
    select = list(request.select)
    if plan.base is None:
        # Into an empty file goes all that is needed too: what the models read, and what their readers read.
        needed = [f"@{name.strip('+')}" if name.endswith("+") else f"+{name.lstrip('+')}" for name in select]
        return [*_selecting(needed), *(["--indirect-selection", "buildable"] if needed else [])]
    if request.is_rebuild:
        return ["--full-refresh", *_selecting(select)]
    return _selecting(select or [project.models[name].selector for name in _with_work(project, plan)]) or None


def _selecting(names: list[str]) -> list[str]:
    return ["--select", *names] if names else []


def _with_work(project: Project, plan: Plan) -> list[str]:
    """Models that are missing, stale or behind, or read what has something new; each after those that it reads."""
    found: dict[str, None] = {}
    for name, model in project.models.items():
        is_first = (
            name in plan.stale or name in plan.behind or project.streams_of(name) & set(plan.new_events)
        )
        if is_first or any(parent in found for parent in model.inputs):
            found[name] = None
    return list(found)
