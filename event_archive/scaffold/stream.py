"""Scaffolds a stream: from its payloads, archived or a sample, to staging models.

What doesn't live here: the models' text (`staging`), and the configuration's (`configuration`).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from event_archive.archive.snapshot import read_snapshot
from event_archive.errors import UsageError
from event_archive.scaffold import project
from event_archive.scaffold.examples import examples, guess_event_id, guess_type_field, read_examples
from event_archive.scaffold.fields import infer_columns
from event_archive.scaffold.naming import check_name
from event_archive.scaffold.sample_file import write_sample
from event_archive.scaffold.staging import staging_files
from event_archive.scaffold.staging_parts import Staging
from event_archive.schema.scan import Asked
from event_archive.schema.stream import check_asked, schema_of_files, scratch
from event_archive.sql.statements import first_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from event_archive.config import Config
    from event_archive.scaffold.fields import Columns
    from event_archive.schema.model import StreamSchema

_LOOKED_AT = 2_000_000


@dataclass(frozen=True, slots=True)
class ScaffoldedStream:
    """What was made of a stream.

    Attributes:
        stream: Its name.
        project: The dbt project.
        made_project: What was made of the project itself, as there was none.
        files: The models.
        model: The one to read: accepted events.
        schema: What the payloads say.
        columns: The columns that were made of it.
        event_id: The path of the event's id, None if it has none.
    """

    stream: str
    project: Path
    made_project: tuple[Path, ...]
    files: tuple[Path, ...]
    model: str
    schema: StreamSchema
    columns: Columns
    event_id: str | None


def scaffold_stream(
    config: Config,
    stream: str,
    *,
    sample: Path | None = None,
    domain: str | None = None,
    event_id: str | None = None,
    type_field: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ScaffoldedStream:
    """Writes staging models for a stream into the dbt project of the configuration; makes that project if there is none.

    Args:
        config: The configuration.
        stream: Name of the stream; configured and archived, unless there is a sample.
        sample: A file of events, as they would be archived.
        domain: What the models are about; the stream's name by default.
        event_id: Path of the event's id; found by its name and its values by default.
        type_field: Path of what tells types of events apart; found likewise.
        on_progress: Called with the events looked at so far, and all.

    Raises:
        UsageError: A name is none, or no columns can be made of the payloads; nothing was written.
        FilesExist: The stream has models already, or files have the names of those to be made; nothing was written.
    """
    check_name(stream, "stream")
    domain = check_name(domain or stream, "domain")
    check_asked(Asked(type_field=type_field, time_field=event_id))
    folder = project.project_folder(config)
    _refuse_known(folder, stream)
    with scratch() as connection, tempfile.TemporaryDirectory(prefix="event-archive-sample-") as temporary:
        if sample is None:
            config.stream(stream)
            snapshot = read_snapshot(config.table(stream))
            if not snapshot.events:
                raise UsageError(f"{stream}: nothing is archived yet; give a file of events with --sample.")
            version, files = snapshot.version, snapshot.file_paths()
        else:
            path = Path(temporary) / "sample.parquet"
            write_sample(sample, path)
            version, files = -1, [str(path)]
        staging, event_id = _infer(
            connection,
            stream,
            domain,
            version,
            files,
            type_field=type_field,
            event_id=event_id,
            on_progress=on_progress,
        )
    # Asked before anything is written: a refusal leaves nothing behind.
    with_source = not project.knows_source(folder, stream)
    made = project.make_project(folder)
    written = project.write_new(folder, staging_files(staging, with_source=with_source))
    return ScaffoldedStream(
        stream, folder, tuple(made), tuple(written), staging.model, staging.schema, staging.columns, event_id
    )


def _infer(
    connection: duckdb.DuckDBPyConnection,
    stream: str,
    domain: str,
    version: int,
    files: list[str],
    *,
    type_field: str | None,
    event_id: str | None,
    on_progress: Callable[[int, int], None],
) -> tuple[Staging, str | None]:
    try:
        read_examples(connection, files)
    except duckdb.Error as error:
        raise UsageError(f"{stream}: can't be read: {first_line(error)}.") from error
    asked = Asked(type_field=type_field or guess_type_field(connection), sample=_LOOKED_AT)
    schema = schema_of_files(connection, stream, version, files, asked, on_progress=on_progress)
    known = examples(connection, schema.paths)
    event_id = event_id or guess_event_id(connection, schema.paths, known)
    columns = infer_columns(connection, schema, known, event_id)
    if not columns.fields:
        raise UsageError(
            f"{stream}: no column can be made of its payloads: they are no JSON objects with fields. Nothing was written; "
            f"`event-archive schema {stream}` shows what they say."
        )
    return Staging(domain, stream, columns, schema), event_id


def _refuse_known(folder: Path, stream: str) -> None:
    known = [
        path
        for path in project.model_files(folder)
        if path.stem.startswith("stg_") and path.stem.endswith(f"__{stream}")
    ]
    if known:
        raise project.FilesExist(
            f"{stream} has staging models already: {known[0]}. Nothing was written; a new column is added there by hand, and in the "
            "decoded model beside it (docs/schema.md says how)."
        )
