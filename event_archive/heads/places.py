"""What the configuration may say about where heads are recorded.

What doesn't live here: recording them (`recorded`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from event_archive.errors import ConfigurationError
from event_archive.source_config import KafkaSource, SecretFile, Section
from event_archive.storage.opening import check_place, is_far

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 15.0
"""An ingest waits so long for brokers that should take a head."""


class HeadsTopic(Section):
    """A topic that keeps the newest head of each stream."""

    brokers: str = Field(min_length=1, description="Addresses to begin with: host:port, separated by commas")
    topic: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,249}$", description="The topic; made, compacted, if there is none"
    )
    properties: dict[str, str | int | bool | SecretFile] = Field(
        default_factory=dict,
        repr=False,
        description="Further librdkafka properties, as under a stream's `source`",
    )

    def as_source(self) -> KafkaSource:
        """What clients of the cluster are set up from."""
        return KafkaSource(
            type="kafka",
            brokers=self.brokers,
            topic=self.topic,
            properties=self.properties,
            timeout_seconds=_SECONDS,
        )

    @model_validator(mode="after")
    def _properties_are_harmless(self) -> HeadsTopic:
        self.as_source()
        return self


class HeadsConfig(Section):
    """A place where heads are appended, so that a log whose end was cut off can be told; one of the three keys."""

    file: Path | None = Field(default=None, description="A file; a line of JSON is appended for each head")
    s3: str | None = Field(default=None, description="s3://bucket/prefix: an object for each head")
    kafka: HeadsTopic | None = Field(default=None, description="A topic, with the stream as the key")

    @field_validator("file", mode="before")
    @classmethod
    def _is_a_file(cls, value: Any) -> Any:
        if isinstance(value, str) and is_far(value):
            raise ValueError("write a file on a local disk here, or use the key `s3`")
        return value

    @field_validator("s3")
    @classmethod
    def _is_far(cls, value: str | None) -> str | None:
        if value is not None and not (check_place(value) and is_far(value)):
            raise ValueError("write s3://bucket/prefix")
        return value

    @model_validator(mode="after")
    def _is_one_place(self) -> HeadsConfig:
        if sum(place is not None for place in (self.file, self.s3, self.kafka)) != 1:
            raise ValueError("write one of the keys file, s3 and kafka; several places are a list")
        return self

    def resolved(self, config_file: Path, archive: str, resolve: Callable[[Path], Path]) -> HeadsConfig:
        """The same with absolute paths.

        Args:
            config_file: where this stands.
            archive: where the archive lies.
            resolve: makes a path absolute.

        Raises:
            ConfigurationError: the place lies in the archive, and would be lost together with what it is to prove.
        """
        if self.kafka is not None:
            source = self.kafka.as_source().with_files_relative_to(config_file.parent)
            topic = self.kafka.model_copy(update={"properties": source.properties})
            return self.model_copy(update={"kafka": topic})
        file = None if self.file is None else resolve(self.file)
        if file is None:
            is_inside = f"{self.s3}/".startswith(f"{archive.rstrip('/')}/")
        else:
            is_inside = not is_far(archive) and Path(os.path.realpath(file)).is_relative_to(
                os.path.realpath(archive)
            )
        if is_inside:
            raise ConfigurationError(
                f"{config_file}: heads: {file or self.s3} lies in the archive; keep heads where the archive isn't."
            )
        return self.model_copy(update={"file": file})


def one_or_several(value: Any) -> Any:
    """One place as a list of one."""
    return [value] if isinstance(value, dict | HeadsConfig) else [] if value is None else value
