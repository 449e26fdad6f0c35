"""Of which state of the archive a recompute is, whether it is compared, and whether what it would come to is there already.

What doesn't live here: past states by name (`as_of`), and what there is to do (`plan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.recompute.as_of import pin_as_of, pin_live
from event_archive.recompute.plan import make_plan, read_base
from event_archive.recompute.project import read_project
from event_archive.recompute.request import Request
from event_archive.warehouse import BuildUnreadable, layout, pin_streams, read_record
from event_archive.warehouse_config import PublishPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from event_archive.config import Config
    from event_archive.recompute.plan import Plan
    from event_archive.recompute.project import Project
    from event_archive.warehouse import PinnedStream


def pin_for(config: Config, request: Request) -> Mapping[str, PinnedStream]:
    """Pin every stream: where a past state had it, where the published tables end, or as it is now."""
    if request.as_of is not None:
        return pin_as_of(config, request.as_of)
    if request.is_range or is_compared(config, request, None):
        # At the same state of the archive, whatever differs from the published tables differs because of the models.
        return pin_live(config) or pin_streams(config)
    return pin_streams(config)


def is_compared(config: Config, request: Request, plan: Plan | None) -> bool:
    """Whether what a build would change has a part in whether it is published; a plan that isn't known is made, of what is there now."""
    if config.publish is PublishPolicy.ALWAYS or request.is_aside:
        return False
    if request.is_rebuild:
        return True
    if plan is None:
        plan = make_plan(
            config, read_project(config.models), pin_streams(config), read_base(config.warehouse)
        )
    return plan.base is not None and plan.changes_history


def waiting_already(
    config: Config, project: Project, plan: Plan, streams: Mapping[str, PinnedStream]
) -> str | None:
    """The newest build, if it is what a refresh would come to and nobody has published it yet: a schedule needn't make it each hour."""
    there = layout.build_ids_with_file(config.warehouse)
    if plan.base is None or not is_compared(config, Request(), plan):
        return None
    try:
        record = read_record(config.warehouse, there[-1])
    except BuildUnreadable:  # not finished, or not yet
        return None
    is_the_same = (
        record.based_on == plan.base.record.build_id
        and record.as_of is None
        and record.models == project.state_hashes()
        and record.versions
        in (plan.base.record.versions, {name: pinned.version for name, pinned in streams.items()})
    )
    return record.build_id if is_the_same else None
