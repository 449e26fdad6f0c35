"""The configuration file `event_archive.yaml`: what it may say, and where exactly a mistake in it stands.

Nothing is read at import. What doesn't live here: paths inside an archive (`layout`).
"""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from event_archive import layout
from event_archive.errors import ConfigurationError
from event_archive.heads.places import HeadsConfig, one_or_several
from event_archive.source_config import Bytes, FilesSource, KafkaSource, Section
from event_archive.storage.opening import StorageOptions, check_place, is_far, open_store
from event_archive.warehouse_config import ComputeConfig, PublishPolicy

if TYPE_CHECKING:
    from event_archive.storage.store import Store

CONFIG_FILE = "event_archive.yaml"
CONFIG_VARIABLE = "EVENT_ARCHIVE_CONFIG"
DBT_PROJECT = "dbt_project"
_SOURCE_DEPTH = 3  # streams, name, source


def _check_stream_name(name: str) -> str:
    if not layout.STREAM_NAME.fullmatch(name):
        raise ValueError("no stream name: use a-z, 0-9 and _, begin with a letter, at most 63 characters")
    return name


StreamName = Annotated[str, AfterValidator(_check_stream_name)]


def _parse_time(value: Any) -> Any:
    """A number would be taken for seconds since 1970, and a time without a zone means another one in each place."""
    try:
        time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError("write a time with its zone, for example 2026-01-31T00:00:00Z")
    return time


ZonedTime = Annotated[dt.datetime, BeforeValidator(_parse_time)]


def _parse_days(value: Any) -> Any:
    """`7 days` or `7` as a span of time."""
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:days?)?\s*", str(value))
    if match is None or isinstance(value, bool):
        raise ValueError("write a number of days, for example 7 days")
    return dt.timedelta(days=int(match.group(1)))


Days = Annotated[dt.timedelta, BeforeValidator(_parse_days)]


class StreamConfig(Section):
    """One stream of events."""

    description: str = Field(default="", description="One sentence for people")
    source: FilesSource | KafkaSource = Field(discriminator="type", description="Where its events come from")
    commit_bytes: Bytes = Field(
        default=128 * 2**20,
        ge=1,
        le=2**30,
        description="A commit is made when so many bytes of values are read",
    )
    lag_below: int | None = Field(
        default=None,
        ge=1,
        description="For topics: the check of that name fails when so many events, or more, wait to be archived",
    )
    ingest_when_lag_above: int | None = Field(
        default=None,
        ge=0,
        description="For topics: Dagster's sensor starts an ingest when more events than that wait",
    )
    gaps_known_until: ZonedTime | None = Field(
        default=None,
        description="For topics: gaps found until then have been dealt with, and the check no_gaps is about later ones",
    )

    @field_validator("lag_below", "ingest_when_lag_above", "gaps_known_until")
    @classmethod
    def _is_for_topics(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and isinstance(info.data.get("source"), FilesSource):
            raise ValueError("this key is for streams whose source is a topic")
        return value


class S3Config(Section):
    """How S3 is reached; what isn't said here comes from the usual AWS environment or profile, credentials always."""

    endpoint_url: str | None = Field(default=None, description="Of another service than Amazon's")
    region: str | None = Field(default=None, description="Of the bucket")
    profile: str | None = Field(default=None, description="Which profile of the AWS configuration is used")
    object_lock_days: int | None = Field(
        default=None,
        ge=1,
        description="With read_only_files, in a bucket with Object Lock: for how long nothing may be removed",
    )


class CacheConfig(Section):
    """What is kept on a local disk to spare work: copies of files from S3, how far an interrupted verify came."""

    path: Path = Field(default=Path(".event_archive"), description="Its folder; may be removed at any time")
    max_bytes: Bytes = Field(default=20 * 2**30, ge=1, description="How large the copies may become together")


class Config(Section):
    """The whole configuration; relative paths in the file are relative to its folder."""

    path: Path = Field(exclude=True)
    archive: str = Field(description="Where the archive lies: a folder, or s3://bucket/prefix")
    s3: S3Config = Field(default=S3Config(), description="How S3 is reached")
    cache: CacheConfig = Field(default=CacheConfig(), description="What is kept to spare work")
    read_only_files: bool = Field(default=False, description="Take the right to write from finished files")
    keep_replaced: Days = Field(
        default=dt.timedelta(days=7),
        description="For how long `clean` leaves files that `compact` has replaced",
    )
    warehouse: Path = Field(description="Folder of the published tables")
    keep_builds: int = Field(
        default=3,
        ge=1,
        description="How many finished builds of them stay on disk, the published one included",
    )
    publish: PublishPolicy = Field(
        default=PublishPolicy.ALWAYS,
        description="When a finished build is published: always, if_equal (when no published table would change), or ask",
    )
    compute: ComputeConfig = Field(
        default=ComputeConfig(), description="How much of the machine a refresh or rebuild may use"
    )
    dbt_project: Path | None = Field(
        default=None,
        description="Folder of the models; by default dbt_project beside this file, else the one that comes with the project",
    )
    heads: Annotated[tuple[HeadsConfig, ...], BeforeValidator(one_or_several)] = Field(
        default=(),
        description="Where each stream's newest commit is noted after an ingest: a place, or a list of them",
    )
    streams: dict[StreamName, StreamConfig] = Field(default_factory=dict, description="The streams, by name")

    @field_validator("warehouse", mode="before")
    @classmethod
    def _only_folders(cls, value: Any) -> Any:
        if isinstance(value, str) and is_far(value):
            raise ValueError("the published tables can only lie in a folder on a local disk")
        return value

    @field_validator("archive")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        return check_place(value)

    @field_validator("streams", mode="before")
    @classmethod
    def _nothing_is_no_streams(cls, value: Any) -> Any:
        return {} if value is None else value

    @property
    def models(self) -> Path:
        """Folder of the dbt project whose models make the tables."""
        beside = self.path.parent / DBT_PROJECT
        ours = Path(__file__).parent.parent / DBT_PROJECT
        return self.dbt_project or (beside if beside.is_dir() else ours)

    @property
    def storage(self) -> StorageOptions:
        """How the archive's place is reached."""
        return StorageOptions(
            endpoint_url=self.s3.endpoint_url,
            region=self.s3.region,
            profile=self.s3.profile,
            object_lock_days=self.s3.object_lock_days,
            read_only_files=self.read_only_files,
            cache=self.cache.path,
            cache_bytes=self.cache.max_bytes,
        )

    def store(self) -> Store:
        """The place where the archive lies."""
        return open_store(self.archive, self.storage)

    def table(self, stream: str) -> Store:
        """The place of the table of `stream`."""
        return self.store().child(layout.check_stream_name(stream))

    def stream(self, name: str) -> StreamConfig:
        """The stream of that name.

        Raises:
            UsageError: the configuration has none.
        """
        if name not in self.streams:
            known = ", ".join(self.streams) or "none"
            raise ConfigurationError(
                f"{self.path}: there is no stream {name!r}; the configured ones are: {known}."
            )
        return self.streams[name]


def load_config(path: Path | None = None) -> Config:
    """Reads the configuration.

    Args:
        path: the file; by default `$EVENT_ARCHIVE_CONFIG`, else `event_archive.yaml` in the working folder.

    Raises:
        ConfigurationError: the file is missing, is no YAML, or a key in it is wrong; the text names file, line and key.
    """
    path = (path or Path(os.environ.get(CONFIG_VARIABLE) or CONFIG_FILE)).absolute()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such file. `event-archive init` writes one; --config or {CONFIG_VARIABLE} names another."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: can't be read ({error}).") from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """The configuration that `text` says; `path` is where it would stand. See `load_config`."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ConfigurationError(f"{path}: is no YAML: {reason}.") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: must hold the keys archive, warehouse and streams.")
    if "path" in raw:
        raise ConfigurationError(f"{path}: path: no such key at the top level.")
    _refuse_repeated_keys(document, path, set())
    try:
        config = Config.model_validate({**raw, "path": path})
    except ValidationError as error:
        raise ConfigurationError("\n".join(_mistakes(error, document, path))) from error
    return _with_resolved_paths(config, path)


def _with_resolved_paths(config: Config, path: Path) -> Config:
    """The configuration with the paths that it says made absolute; what can't go together is refused."""
    if config.s3.object_lock_days is not None and not config.read_only_files:
        raise ConfigurationError(
            f"{path}: s3.object_lock_days: has no effect without `read_only_files: true`; say that too."
        )
    warehouse = _resolved(path, "warehouse", config.warehouse)
    cache = _resolved(path, "cache.path", config.cache.path)
    archive, folders = config.archive, [warehouse, cache]
    if not is_far(archive):
        folders.insert(0, _resolved(path, "archive", Path(archive)))
        archive = str(folders[0])
    heads = tuple(
        place.resolved(path, archive, lambda file: _resolved(path, "heads.file", file))
        for place in config.heads
    )
    folders += [place.file for place in heads if place.file is not None]
    streams = {}
    for name, stream in config.streams.items():
        if isinstance(stream.source, KafkaSource):
            source = stream.source.with_files_relative_to(path.parent)
            streams[name] = stream.model_copy(update={"source": source})
            continue
        key = f"streams.{name}.source.path"
        landing = _resolved(path, key, stream.source.path)
        for ours in folders:
            if Path(os.path.realpath(ours)).is_relative_to(os.path.realpath(landing)):
                raise ConfigurationError(
                    f"{path}: {key}: {ours} lies in this landing folder and would be read as events; keep them apart."
                )
        streams[name] = stream.model_copy(
            update={"source": stream.source.model_copy(update={"path": landing})}
        )
    models = config.dbt_project and _resolved(path, "dbt_project", config.dbt_project)
    return config.model_copy(
        update={
            "archive": archive,
            "dbt_project": models,
            "warehouse": warehouse,
            "cache": config.cache.model_copy(update={"path": cache}),
            "heads": heads,
            "streams": streams,
        }
    )


def _resolved(config_file: Path, key: str, path: Path) -> Path:
    try:
        if "\0" in str(path):
            raise ConfigurationError(f"{config_file}: {key}: a path can't hold a NUL.")
        return config_file.parent / path.expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{config_file}: {key}: {error}.") from error


def _refuse_repeated_keys(node: yaml.Node | None, path: Path, visited: set[int]) -> None:
    """YAML lets the last of two equal keys win, which would make a stream vanish without a word."""
    if id(node) in visited:  # an alias may name what it stands in
        return
    visited.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigurationError(
                    f"{path}:{key.start_mark.line + 1}: {key.value}: the key stands here twice."
                )
            seen.add(key.value)
            _refuse_repeated_keys(value, path, visited)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, path, visited)


def _mistakes(error: ValidationError, document: yaml.Node | None, path: Path) -> list[str]:
    lines = []
    for mistake in error.errors(include_url=False):
        keys = _keys(mistake["loc"])
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            message = "no such key here"
        elif mistake["type"] in ("missing", "union_tag_not_found"):
            message = "this key is missing"
        elif mistake["type"] == "union_tag_invalid":
            message = f"no such kind of source; there are {mistake['ctx']['expected_tags']}"
        if mistake["type"].startswith("union_tag"):
            keys.append("type")
        lines.append(f"{path}:{_line(document, keys)}: {'.'.join(keys)}: {message}.")
    return lines


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys as they stand in the file: pydantic adds which alternative of a union it tried."""
    keys = [str(part) for part in location if part != "[key]"]
    if len(keys) > _SOURCE_DEPTH and keys[0] == "streams" and keys[2] == "source":
        del keys[_SOURCE_DEPTH]
    return keys


def _line(node: yaml.Node | None, keys: list[str]) -> int:
    """Line, from 1, of the deepest of `keys` that stands in the document."""
    line = 1
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, value in node.value:
            if name.value == key:
                line, node = name.start_mark.line + 1, value
                break
        else:
            break
    return line
