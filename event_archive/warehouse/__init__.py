"""The warehouse: one DuckDB file that readers open, built beside the live one and switched in whole.

What lives here: where the files are (`layout`), a build and its lock (`build`), switching it in (`publish`), and the digest
of a mart (`digest`). What doesn't: the models that fill a build (`dbt_project`) and who starts it (`orchestration`).

    with start_build(warehouse, mode="refresh", streams=lambda: pin_streams(config)) as build:
        ...                                     # fill build.file, for example with dbt and build.environment()
        publish(build, built_by="the nightly refresh")

Leaving the block without `publish` discards the build; the published tables stay as they were.
"""

from __future__ import annotations

from event_archive.warehouse.build import Build, BuildMode, PinnedStream, WarehouseBusy, start_build
from event_archive.warehouse.layout import current_build_id, published_file
from event_archive.warehouse.pin import pin_streams
from event_archive.warehouse.publish import (
    BuildSuperseded,
    BuildUnreadable,
    MartRecord,
    MartUnreadable,
    PublishedBuild,
    publish,
    read_build,
    read_published,
)

__all__ = [
    "Build",
    "BuildMode",
    "BuildSuperseded",
    "BuildUnreadable",
    "MartRecord",
    "MartUnreadable",
    "PinnedStream",
    "PublishedBuild",
    "WarehouseBusy",
    "current_build_id",
    "pin_streams",
    "publish",
    "published_file",
    "read_build",
    "read_published",
    "start_build",
]
