"""What the configuration may say about where a stream's events come from: one model per kind of source.

What doesn't live here: reading the file and placing its mistakes (`config`), and connecting (`sources`).
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def _parse_bytes(value: Any) -> Any:
    """`128 MB` as 134217728; other types are left to pydantic."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]+)\s*([KMG]?B)?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError("write a size like 134217728 or 128 MB")
    return int(match.group(1)) * _UNITS[(match.group(2) or "").upper()]


Bytes = Annotated[int, BeforeValidator(_parse_bytes)]


class Section(BaseModel):
    """Keys of the configuration: no others are allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FilesSource(Section):
    """A landing folder, read recursively."""

    type: Literal["files"]
    path: Path = Field(description="The landing folder")
    format: Literal["json_lines"] = Field(default="json_lines", description="One record a line")
    settle_seconds: float = Field(
        default=60,
        ge=0,
        description="A last line without a line end is taken once its file has been still for so long",
    )
    max_record_bytes: Bytes = Field(
        default=256 * 2**20, ge=1, le=2**30, description="A longer line is a problem of its file"
    )


class SecretFile(Section):
    """A value that stands in a file of its own."""

    file: Path = Field(description="Its content, without a line end at the end, is the value")


class KafkaSource(Section):
    """A topic of a Kafka cluster."""

    type: Literal["kafka"]
    brokers: str = Field(
        min_length=1,
        description="Addresses to begin with: host:port, separated by commas; ${NAME} is the environment's",
    )
    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="The topic")
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="Whether events of aborted and open transactions are archived"
    )
    start_at: Literal["earliest", "latest"] | dt.datetime | dict[int, int] = Field(
        default="earliest",
        description="Where the first ingest of the stream begins: earliest, latest, a time with its zone, or an offset per "
        "partition (the others from the earliest). Partitions that are added later begin at their earliest event",
    )
    group: str | None = Field(
        default=None,
        description="Consumer group in which positions are written after each commit, for lag monitors; "
        "event-archive-<stream> by default. Nothing is ever read from it",
    )
    properties: dict[str, str | int | bool | SecretFile] = Field(
        default_factory=dict,
        repr=False,
        description="Further librdkafka properties (TLS, SASL, sizes); ${NAME} in a value is the environment's",
    )
    timeout_seconds: float = Field(
        default=60, gt=0, description="An ingest that hears nothing from the brokers for so long gives up"
    )

    def with_files_relative_to(self, folder: Path) -> KafkaSource:
        """The same, with the files that properties name as absolute paths."""
        properties = {
            name: SecretFile(file=folder / value.file.expanduser())
            if isinstance(value, SecretFile)
            else str(folder / value)
            if name.endswith(".location") and isinstance(value, str) and not value.startswith(("$", "~", "/"))
            else value
            for name, value in self.properties.items()
        }
        return self.model_copy(update={"properties": properties})

    @field_validator("start_at", mode="before")
    @classmethod
    def _start_is_exact(cls, value: Any) -> Any:
        if isinstance(value, dict):
            numbers = [number for pair in value.items() for number in pair]
            if not all(type(number) is int and number >= 0 for number in numbers):
                raise ValueError("write an offset per partition, both whole numbers: {0: 1200, 1: 0}")
            return value
        if value in ("earliest", "latest"):
            return value
        try:
            time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
        except ValueError:
            raise ValueError(
                "write earliest, latest, a time like 2026-01-31T00:00:00Z, or an offset per partition: {0: 1200, 1: 0}"
            ) from None
        if time.tzinfo is None:
            raise ValueError("write the time with its zone, for example 2026-01-31T00:00:00Z")
        return time

    @field_validator("properties")
    @classmethod
    def _properties_are_harmless(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _OWN_PROPERTIES:
                raise ValueError(f"{name} is set by event-archive; {_OWN_PROPERTIES[name]}")
            if not _ALLOWED_PROPERTIES.fullmatch(name):
                raise ValueError(
                    f"{name} is not among the properties that may be set here (docs/kafka.md lists them)"
                )
        return value


# What decides whether events are lost or doubled isn't open to settings.
_OWN_PROPERTIES = {
    "bootstrap.servers": "write `brokers`",
    "metadata.broker.list": "write `brokers`",
    "group.id": "write `group`",
    "isolation.level": "write `isolation`",
    "auto.offset.reset": "positions come from the archive, and gaps are recorded",
    "enable.auto.commit": "positions are written after each commit of the archive",
    "enable.auto.offset.store": "positions are written after each commit of the archive",
    "enable.partition.eof": "it is needed to know how far a partition was read",
    "check.crcs": "checksums are always checked",
}
# A list of what is allowed: some properties of librdkafka run a shell (sasl.kerberos.kinit.cmd) or load code
# (plugin.library.paths).
_ALLOWED_PROPERTIES = re.compile(
    r"security\.protocol|sasl\.(mechanisms?|username|password)"
    r"|sasl\.oauthbearer\.(method|client\.id|client\.secret|scope|extensions|token\.endpoint\.url)|enable\.sasl\.oauthbearer\.unsecure\.jwt"
    r"|https\.ca\.(location|pem)"
    r"|ssl\.(ca|certificate|key|crl|keystore)\.(location|pem|password)|ssl\.ca\.certificate\.stores"
    r"|ssl\.(cipher\.suites|curves\.list|sigalgs\.list|endpoint\.identification\.algorithm)"
    r"|enable\.ssl\.certificate\.verification"
    r"|client\.(id|rack|dns\.lookup)|broker\.address\.(family|ttl)|connections\.max\.idle\.ms"
    r"|socket\.[a-z.]+|reconnect\.backoff(\.max)?\.ms|retry\.backoff(\.max)?\.ms|metadata\.max\.age\.ms|topic\.metadata\.[a-z.]+"
    r"|fetch\.[a-z.]+|queued\.(min\.messages|max\.messages\.kbytes)|receive\.message\.max\.bytes|max\.partition\.fetch\.bytes"
)
