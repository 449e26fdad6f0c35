"""All files of a stream's staging models, by their path in the dbt project.

What doesn't live here: what they say (`staging_sql`, `staging_yml`), and writing them (`project`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.scaffold.staging_parts import ENVELOPE_ADDED, identity, payload_names
from event_archive.scaffold.staging_sql import decoded_sql, rejected_sql, view_sql
from event_archive.scaffold.staging_yml import (
    accepted_yml,
    decoded_yml,
    duplicates_yml,
    rejected_yml,
    source_yml,
)

if TYPE_CHECKING:
    from event_archive.scaffold.staging_parts import Staging


def staging_files(staging: Staging, *, with_source: bool) -> dict[str, str]:
    """The files, by their path in the dbt project.

    Args:
        staging: What they are made of.
        with_source: Whether dbt doesn't know the stream yet.
    """
    folder = f"models/staging/{staging.domain}"
    model = staging.model
    files = {
        f"{folder}/{model}_decoded.sql": decoded_sql(staging),
        f"{folder}/{model}_decoded.yml": decoded_yml(staging),
        f"{folder}/{model}.sql": view_sql(staging, [*payload_names(staging), *ENVELOPE_ADDED], "accepted"),
        f"{folder}/{model}.yml": accepted_yml(staging),
        f"{folder}/{model}_rejected.sql": rejected_sql(staging),
        f"{folder}/{model}_rejected.yml": rejected_yml(staging),
        f"{folder}/{model}_duplicates.sql": view_sql(
            staging, [*ENVELOPE_ADDED[:-1], *identity(staging)], "duplicate"
        ),
        f"{folder}/{model}_duplicates.yml": duplicates_yml(staging),
    }
    if with_source:
        files = {f"{folder}/_event_archive__{staging.stream}.yml": source_yml(staging), **files}
    return files
