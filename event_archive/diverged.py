"""Why a table is no copy of another: the first commit by which their logs differ.

What doesn't live here: copying (`copying`).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from event_archive import layout
from event_archive.archive.history import iter_entries, newest_version
from event_archive.archive.log import REMEDY, entry_fault
from event_archive.errors import ArchiveDamaged, EventArchiveError

if TYPE_CHECKING:
    from event_archive.storage.store import Store


class CopyRefused(EventArchiveError):
    """The target has commits that the source doesn't have: it is another archive, and nothing in it was changed."""


def why_no_copy(source: Store, target: Store, first: int = 0) -> EventArchiveError:
    """Why the target can't be a copy of the source; names the first commit that differs."""
    # One after the other, since a hash of the chain says nothing about entries that were changed behind it.
    for ours, theirs in zip_longest(iter_entries(source, first=first), iter_entries(target, first=first)):
        if ours == theirs:
            continue
        if theirs is None:
            break
        if ours is None:
            more = newest_version(target) - theirs[0] + 1
            return CopyRefused(
                f"{target.url}: has {more} commit{'s' if more > 1 else ''} that {source.url} doesn't have, the first being commit "
                f"{theirs[0]}; nothing was copied. Copy the other way round, or to another place."
            )
        for place, pair in ((source, ours), (target, theirs)):
            if fault := entry_fault(pair[1]):
                return ArchiveDamaged(f"{place.place(layout.entry_name(pair[0]))} {fault}. {REMEDY}")
        if ours[0] == 0:
            return CopyRefused(
                f"{target.url}: is another table than {source.url}: their first log entries (commit 0) differ; nothing was "
                "copied. Copy to another place."
            )
        return CopyRefused(
            f"{target.url}: goes on differently than {source.url} from commit {ours[0]} on, the first that differs; nothing was "
            "copied. Events were archived into both: copy to another place, and ingest into one of them only."
        )
    return ArchiveDamaged(f"{target.url}: its log reads differently each time. {REMEDY}")
