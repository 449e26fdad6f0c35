"""The warehouse: one DuckDB file that readers open, built beside the live one and switched in whole.

What lives here: where the files are (`layout`), a build and its lock (`build`, `lock`), what it sees of the archive (`pin`), finishing it
(`finish`) and what it is made of (`record`, `record_tables`, `digest`, `kept_digests`), switching it in and going back (`publish`,
`switching`, `policy`), which builds there are (`builds`), and what differs between two (`diff`, `diff_rows`). What doesn't: the models
that fill a build (`dbt_project`) and who starts it (`event_archive.recompute`, `orchestration`).

    with start_build(warehouse, mode="refresh", streams=lambda: pin_streams(config)) as build:
        ...                                     # fill build.file, for example with dbt and build.environment()
        publish(build, MadeBy("the nightly refresh"))

or, to look at what it would change before readers see it:

        finish(build, MadeBy("the nightly refresh"))
        difference = diff_builds(published_file(warehouse), layout.build_file(warehouse, build.build_id))
        switch(build) if ... else keep_waiting(build)

Leaving the block before the build is finished discards it; the published tables stay as they were.
"""

from __future__ import annotations

from event_archive.warehouse.build import Build, BuildMode, PinnedStream, start_build
from event_archive.warehouse.builds import BuildState, KnownBuild, find_build, list_builds
from event_archive.warehouse.diff import BuildDiff, MartDiff, diff_builds
from event_archive.warehouse.finish import BuildSuperseded, MadeBy, finish, finish_into
from event_archive.warehouse.kept_digests import MartUnreadable
from event_archive.warehouse.layout import current_build_id, published_file
from event_archive.warehouse.lock import WarehouseBusy
from event_archive.warehouse.pin import pin_streams
from event_archive.warehouse.policy import Decision, decide
from event_archive.warehouse.publish import (
    Switched,
    keep_waiting,
    publish,
    publish_waiting,
    read_published,
    roll_back,
    switch,
)
from event_archive.warehouse.record import (
    BuildRecord,
    BuildUnreadable,
    MartRecord,
    StreamRecord,
    read_record,
)
from event_archive.warehouse.record_tables import read_build

__all__ = [
    "Build",
    "BuildDiff",
    "BuildMode",
    "BuildRecord",
    "BuildState",
    "BuildSuperseded",
    "BuildUnreadable",
    "Decision",
    "KnownBuild",
    "MadeBy",
    "MartDiff",
    "MartRecord",
    "MartUnreadable",
    "PinnedStream",
    "StreamRecord",
    "Switched",
    "WarehouseBusy",
    "current_build_id",
    "decide",
    "diff_builds",
    "find_build",
    "finish",
    "finish_into",
    "keep_waiting",
    "list_builds",
    "pin_streams",
    "publish",
    "publish_waiting",
    "published_file",
    "read_build",
    "read_published",
    "read_record",
    "roll_back",
    "start_build",
    "switch",
]
