"""Publishing: switch a finished build in, go back to an older one, keep a few of them.

What doesn't live here: finishing a build (`finish`), and whether it should be published (`policy`).

A build is finished, then the link is switched, then the oldest are removed, each step durable and safe to be killed after. Until
the switch, readers see the older build; after it, the new one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from event_archive.errors import StorageError, UsageError
from event_archive.warehouse import layout
from event_archive.warehouse.finish import MadeBy, finish, not_published, refuse_if_superseded, withdraw
from event_archive.warehouse.lock import locked
from event_archive.warehouse.record import BuildUnreadable, read_record
from event_archive.warehouse.record_tables import read_build
from event_archive.warehouse.switching import published_before, switch_link_to, when_last_live

if TYPE_CHECKING:
    from pathlib import Path

    from event_archive.warehouse.build import Build
    from event_archive.warehouse.record import BuildRecord

log = logging.getLogger(__name__)

KEPT_BUILDS = 3
"""How many builds stay on disk, the published one included."""


@dataclass(frozen=True)
class Switched:
    """What a switch to a build that was there has done.

    Attributes:
        now: The build that readers see.
        before: The build that they saw before, if its record can still be read; the same if nothing had to be done.
        events_behind: How many events of each stream the build before holds that this one doesn't; streams without any are left out.
    """

    now: BuildRecord
    before: BuildRecord | None
    events_behind: dict[str, int]


def publish(
    build: Build,
    made: MadeBy,
    *,
    keep: int = KEPT_BUILDS,
) -> BuildRecord:
    """Make a build the published one, for whoever opens the warehouse from now on; older readers go on undisturbed.

    If it fails, the build is thrown away and what was published stays.

    Args:
        build: A build whose tables are complete and checked.
        made: By what and of what.
        keep: How many builds stay on disk, this one included.

    Raises:
        BuildSuperseded: Another build has been published since this one was started.
        MartUnreadable: A mart reads what is not in the build's own file.
        StorageError: The disk is full or refused.
    """
    _check_keep(keep)
    finish(build, made)
    return switch(build, keep=keep)


def switch(build: Build, *, keep: int = KEPT_BUILDS) -> BuildRecord:
    """Switch a build in that has just been finished, and end it.

    If it fails, the build is thrown away and what was published stays.

    Args:
        build: A finished build that is still open.
        keep: How many builds stay on disk, this one included.

    Raises:
        BuildSuperseded: Another build has been published since this one was started.
        StorageError: The disk is full or refused.
    """
    _check_keep(keep)
    if build.record is None:
        raise ValueError(f"Build {build.build_id} has to be finished before it is switched in")
    try:
        # Asked again, as late as possible: digesting the marts, or a person's decision, may have taken long.
        refuse_if_superseded(build)
        switch_link_to(build.warehouse, build.build_id)
    except OSError as error:
        withdraw(build, str(error))
        raise not_published(build, error) from error
    except BaseException as error:
        withdraw(build, str(error))
        raise
    build.end()
    _remove_oldest(build.warehouse, keep, newest=build.build_id)
    return build.record


def keep_waiting(build: Build, *, keep: int = KEPT_BUILDS) -> BuildRecord:
    """End a finished build without switching it in: it waits for `publish_waiting`.

    Args:
        build: A finished build that is still open.
        keep: How many builds stay on disk, the published one included; this one stays in any case.
    """
    _check_keep(keep)
    if build.record is None:
        raise ValueError(f"Build {build.build_id} has to be finished before it can wait")
    _remove_oldest(build.warehouse, keep, newest=build.build_id)
    build.end()
    return build.record


def publish_waiting(warehouse: Path, build_id: str, *, wait_seconds: float = 0) -> Switched:
    """Publish a build that is finished; any whole one that is there, also if newer ones have been published since.

    Args:
        warehouse: Folder of the warehouse.
        build_id: The build.
        wait_seconds: How long to wait for a build that is under way.

    Raises:
        UsageError: There is no such build here.
        BuildUnreadable: It is damaged.
        WarehouseBusy: A build is under way.
        StorageError: The disk is full or refused.
    """
    return _switch_to(warehouse, build_id, wait_seconds, is_rollback=False)


def roll_back(warehouse: Path, build_id: str | None = None, *, wait_seconds: float = 0) -> Switched:
    """Go back to an older build that is kept; the next refresh goes on from there.

    Args:
        warehouse: Folder of the warehouse.
        build_id: The build; by default the one that was published before the present one was.
        wait_seconds: How long to wait for a build that is under way.

    Raises:
        UsageError: There is no such build here.
        BuildUnreadable: It is damaged.
        WarehouseBusy: A build is under way.
        StorageError: The disk is full or refused.
    """
    return _switch_to(warehouse, build_id, wait_seconds, is_rollback=True)


def read_published(warehouse: Path) -> BuildRecord | None:
    """Read what is published in a warehouse; None if nothing has been yet.

    Raises:
        BuildUnreadable: The published file is damaged.
    """
    file = layout.published_file(warehouse)
    return None if file is None else read_build(file)


def why_absent(warehouse: Path, build_id: str) -> str:
    """Say why the file of a build isn't there, and how to get it back."""
    if layout.is_build_id(build_id) and layout.record_file(warehouse, build_id).exists():
        return (
            f"Of build {build_id} only the record is left; `event-archive rebuild --as-of {build_id} --into FILE` computes its "
            "tables again."
        )
    return f"There is no build {build_id!r} in {warehouse}."


def _switch_to(warehouse: Path, build_id: str | None, wait_seconds: float, *, is_rollback: bool) -> Switched:
    warehouse = warehouse.absolute()
    if not warehouse.is_dir():
        raise UsageError(f"There is no warehouse in {warehouse} yet: run `event-archive refresh` first.")
    with locked(warehouse, wait_seconds):
        published = layout.current_build_id(warehouse)
        before = _record_if_readable(warehouse, published)
        chosen = _the_one_before(warehouse, published, before) if build_id is None else build_id
        _refuse_if_absent(warehouse, chosen)
        now = read_build(layout.build_file(warehouse, chosen))
        if now.build_id != chosen:
            raise BuildUnreadable(
                f"{layout.build_file(warehouse, chosen)} holds build {now.build_id}; it was put there by hand. Move it away."
            )
        if chosen != published:
            link = layout.current_link(warehouse)
            if link.exists() and not link.is_symlink():
                raise StorageError(
                    f"{link} is a file, not the link that this warehouse makes; move it away, then run this again."
                )
            try:
                switch_link_to(warehouse, chosen, is_rollback=is_rollback)
            except OSError as error:
                raise StorageError(
                    f"Build {chosen} could not be switched in ({error}); what was published stays as it is."
                ) from error
    behind = {
        name: seen.events - (now.streams[name].events if name in now.streams else 0)
        for name, seen in (before.streams if before else {}).items()
    }
    return Switched(now, before, {name: events for name, events in behind.items() if events > 0})


def _the_one_before(warehouse: Path, published: str | None, record: BuildRecord | None) -> str:
    if published is None:
        raise UsageError(f"Nothing is published in {warehouse} yet, so there is nothing to go back from.")
    before = published_before(warehouse, published) or (record.based_on if record else None)
    if before is None:
        raise UsageError(f"Build {published} is the first one here; there is none before it to go back to.")
    return before


def _refuse_if_absent(warehouse: Path, build_id: str) -> None:
    there = layout.build_ids_with_file(warehouse)
    if build_id in there:
        return
    raise UsageError(f"{why_absent(warehouse, build_id)} There are: {', '.join(reversed(there)) or 'none'}.")


def _record_if_readable(warehouse: Path, build_id: str | None) -> BuildRecord | None:
    if build_id is None:
        return None
    try:
        return read_record(warehouse, build_id)
    except BuildUnreadable:
        try:
            return read_build(layout.build_file(warehouse, build_id))
        except BuildUnreadable:  # going back is the way out of exactly that
            return None


def _check_keep(keep: int) -> None:
    if keep < 1:
        raise ValueError("At least the published build has to be kept")


def _remove_oldest(warehouse: Path, keep: int, *, newest: str) -> None:
    """Remove all but the published build, those that were published last before it, and the newest that waits. Records stay.

    Who has one of them open reads on: a removed file lives until it is closed.
    """
    published = layout.current_build_id(warehouse)
    others = [build_id for build_id in layout.build_ids_with_file(warehouse) if build_id != published]
    last_live = when_last_live(warehouse)
    kept = sorted((build_id for build_id in others if build_id in last_live), key=last_live.__getitem__)
    waiting = [build_id for build_id in others if build_id not in last_live]
    stay = {*kept[max(0, len(kept) - (keep - 1)) :], *waiting[-1:], newest}
    for build_id in others:
        if build_id in stay:
            continue
        try:
            layout.build_file(warehouse, build_id).unlink(missing_ok=True)
        except OSError as error:  # the new build is published all the same; the next one tries again
            log.warning("An old build of the warehouse could not be removed: %s", error)
