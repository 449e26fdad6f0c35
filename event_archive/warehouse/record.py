"""What a finished build is made of, as a file beside it that stays when the build's own file is gone.

What doesn't live here: the same facts as tables inside the build's file (`record_tables`), and when they are written (`finish`).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from event_archive import durable
from event_archive.errors import EventArchiveError
from event_archive.layout import STREAM_NAME
from event_archive.warehouse import layout

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Version of the file's format: a file of another one is refused, never guessed at."""


class BuildUnreadable(EventArchiveError):
    """A file of the warehouse can't be read; a rebuild makes a new one, since nothing is kept there alone."""


@dataclass(frozen=True)
class StreamRecord:
    """What a build has seen of one stream of the archive.

    Attributes:
        version: The commit up to which it was seen; -1 if there was none.
        events: How many events that were.
        chain_hash: SHA-256 of the log entry of that commit, which stands for the whole log up to it; None if not known.
    """

    version: int
    events: int
    chain_hash: str | None = None


@dataclass(frozen=True)
class MartRecord:
    """One mart as it was finished.

    Attributes:
        mart: Its name.
        rows: How many it has.
        digest: Of these rows; equal exactly if the rows are.
        level: `event`, `entity` or `day`, if the model says it.
        key: The columns by which the model is computed incrementally.
        grain: The columns that tell its rows apart, if whoever built it says them.
        code_hash: Of the code that made it, if whoever built it says it.
    """

    mart: str
    rows: int
    digest: str
    level: str | None = None
    key: tuple[str, ...] = ()
    grain: tuple[str, ...] = ()
    code_hash: str | None = None


@dataclass(frozen=True)
class BuildRecord:
    """A finished build: when, by what, from what, and what came out.

    Attributes:
        build_id: Name of the build.
        mode: `refresh` or `rebuild`.
        built_by: Who or what built it.
        project_version: Version of this program.
        dbt_invocation_id: Of the dbt run that filled it, if known.
        based_on: The build that was published when it was started, or None.
        as_of: What past state of the archive was asked for, in the asker's words; None: the newest.
        started_at: UTC.
        finished_at: UTC.
        streams: What it has seen of each stream.
        marts: Each mart's rows and digest, by name.
        models: Hash of the code and of all that has a part in it, by model; the next build compares.
        is_partial: Whether some tables hold less than `streams` says: only others were computed.
    """

    build_id: str
    mode: str
    built_by: str
    project_version: str
    dbt_invocation_id: str | None
    based_on: str | None
    as_of: str | None
    started_at: datetime
    finished_at: datetime
    streams: dict[str, StreamRecord]
    marts: tuple[MartRecord, ...]
    models: dict[str, str] = field(default_factory=dict)
    is_partial: bool = False

    @property
    def versions(self) -> dict[str, int]:
        """Version of each stream's archive table that it holds."""
        return {name: stream.version for name, stream in self.streams.items()}


def to_json(record: BuildRecord) -> str:
    """Write a record as a JSON document."""
    document = {"format": FORMAT, **dataclasses.asdict(record)}
    return json.dumps(document, indent=1, default=_time_text, sort_keys=False) + "\n"


def from_json(text: str, name: str) -> BuildRecord:
    """Read a record back.

    Args:
        text: A JSON document.
        name: What the document is called in errors.

    Raises:
        BuildUnreadable: It is no record, or of a format that this version doesn't know.
    """
    try:
        document = json.loads(text)
        found = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BuildUnreadable(_damaged(name, error)) from error
    if found != FORMAT:
        raise BuildUnreadable(
            f"{name} is of format {found!r}; this version of event-archive reads format {FORMAT}. "
            "Use the version that wrote it, or a newer one."
        )
    try:
        record = _record(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildUnreadable(_damaged(name, error)) from error
    return record


def write_record(warehouse: Path, record: BuildRecord) -> Path:
    """Put a record beside the build's file, durably; it is there whole or not at all.

    Raises:
        OSError: The disk is full or refused, or there is one of that name.
    """
    file = layout.record_file(warehouse, record.build_id)
    content = to_json(record).encode()
    if not durable.publish_new(file.parent, file.name, layout.pending_record_name(), content, mode=0o444):
        raise FileExistsError(f"{file} is there already")
    return file


def read_record(warehouse: Path, build_id: str) -> BuildRecord:
    """Read the record of a build, of which the file may long be gone.

    Raises:
        BuildUnreadable: There is none, or it is damaged.
    """
    file = layout.record_file(warehouse, build_id)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildUnreadable(_damaged(str(file), error)) from error
    record = from_json(text, str(file))
    if record.build_id != build_id:
        raise BuildUnreadable(_damaged(str(file), ValueError(f"it is the one of {record.build_id}")))
    return record


def _damaged(name: str, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return (
        f"{name} is no readable record of a build ({reason}); put it back from a copy. Without one, this build can't be computed "
        "again by its name, but any state of the archive can: by its time."
    )


def _time_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _record(document: dict[str, Any]) -> BuildRecord:
    build_id = _text(document["build_id"])
    if not layout.is_build_id(build_id):
        raise ValueError(f"{build_id!r} is not the name of a build")
    return BuildRecord(
        build_id=build_id,
        mode=_text(document["mode"]),
        built_by=_text(document["built_by"]),
        project_version=_text(document["project_version"]),
        dbt_invocation_id=_optional_text(document["dbt_invocation_id"]),
        based_on=_optional_text(document["based_on"]),
        as_of=_optional_text(document["as_of"]),
        started_at=_time(document["started_at"]),
        finished_at=_time(document["finished_at"]),
        streams={_stream_name(name): _stream(stream) for name, stream in document["streams"].items()},
        marts=tuple(_mart(mart) for mart in document["marts"]),
        models={name: _text(state) for name, state in document["models"].items()},
        is_partial=bool(document.get("is_partial", False)),
    )


def _stream(document: dict[str, Any]) -> StreamRecord:
    return StreamRecord(
        version=_number(document["version"]),
        events=_number(document["events"]),
        chain_hash=_optional_text(document["chain_hash"]),
    )


def _mart(document: dict[str, Any]) -> MartRecord:
    return MartRecord(
        mart=_text(document["mart"]),
        rows=_number(document["rows"]),
        digest=_text(document["digest"]),
        level=_optional_text(document["level"]),
        key=tuple(map(_text, document["key"])),
        grain=tuple(map(_text, document["grain"])),
        code_hash=_optional_text(document["code_hash"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _stream_name(name: str) -> str:
    if not STREAM_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a stream")
    return name


def _time(value: Any) -> datetime:
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError(f"{value!r} has no zone")
    return time.astimezone(UTC)
