"""Whether a finished build is published: the configuration's `publish`, asked before history changes.

What doesn't live here: finding out what differs (`diff`), and publishing (`publish`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.warehouse_config import PublishPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.warehouse.diff import BuildDiff, MartDiff


@dataclass(frozen=True)
class Decision:
    """Whether a build is published, and a sentence that says why, or with which command it will be."""

    is_published: bool
    reason: str


def decide(
    policy: PublishPolicy,
    build_id: str,
    difference: BuildDiff | None,
    confirm: Callable[[], bool] | None = None,
) -> Decision:
    """Decide whether a finished build is published.

    Args:
        policy: What the configuration says.
        build_id: The finished build.
        difference: From the published build to this one; None if no history can change: nothing is published yet, or the build only adds
            what is new.
        confirm: Asks a person; None if there is none to ask.
    """
    changed = [mart.mart for mart in (difference.marts if difference else ()) if _is_changed(mart)]
    fine = {
        "every finished build is.": policy is PublishPolicy.ALWAYS,
        "it changes no history.": difference is None,
        "it doesn't differ from what is published.": difference is not None and difference.is_equal,
        "every published mart is the same in it.": policy is PublishPolicy.IF_EQUAL and not changed,
    }
    why = next((reason for reason, is_so in fine.items() if is_so), None)
    if why is None and policy is PublishPolicy.ASK and confirm is not None and confirm():
        why = "it was confirmed."
    if why is not None:
        return Decision(is_published=True, reason=f"Build {build_id} is published: {why}")
    if policy is PublishPolicy.IF_EQUAL:
        why_not = f"it would change {', '.join(changed)}, and the configuration says `publish: if_equal`"
    elif confirm is None:
        why_not = "the configuration says `publish: ask`, and there is nobody to ask"
    else:
        why_not = "it was not confirmed"
    return Decision(
        is_published=False,
        reason=f"Build {build_id} waits: {why_not}. `event-archive publish {build_id}` publishes it.",
    )


def _is_changed(mart: MartDiff) -> bool:
    return mart.is_in_a and not mart.is_equal
