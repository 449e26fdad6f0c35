"""The topic that events are replayed into: how it is named and reached, and whether it can take them as they are.

What doesn't live here: writing to it (`topic`) and how far that has come (`progress`).
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import yaml
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType
from pydantic import ValidationError

from event_archive.errors import (
    CommitConflict,
    ConfigurationError,
    EventArchiveError,
    SourceUnavailable,
    StorageError,
    UsageError,
)
from event_archive.replay.committed import read_committed
from event_archive.source_config import KafkaSource
from event_archive.sources.kafka.connection import Errors, client_properties, kafka_errors
from event_archive.sources.kafka.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from event_archive.config import Config
    from event_archive.replay.events import ArchivedEvents

_URL = re.compile(r"kafka://([^/\s]+)/([^/\s]+)")
_TIMEOUT_SECONDS = 30.0
_WAIT_SECONDS = 0.1
_MILLISECONDS = 1000
_TAKEN_OVER = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001 - public names
)
_REMEDIES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this user may not write the topic; grant READ, WRITE and DESCRIBE on it",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "this user may not use transactions; grant WRITE and DESCRIBE on "
    "transactional ids that begin with event-archive-replay-",
    KafkaError.MSG_SIZE_TOO_LARGE: "an event is larger than the topic takes; raise its max.message.bytes",
    KafkaError.INVALID_TIMESTAMP: "the topic doesn't take the time of an event; set its message.timestamp.after.max.ms and "
    "message.timestamp.before.max.ms to 9223372036854775807",
    KafkaError.INVALID_RECORD: "the topic doesn't take an event; a compacted topic takes none without a key, and "
    "message.timestamp.after.max.ms limits their times",
}


def is_topic_url(text: str) -> bool:
    """Whether `text` is meant to name a topic."""
    return text.startswith("kafka:")


def parse_target(config: Config, stream: str, url: str, properties_file: Path | None) -> KafkaSource:
    """The topic of `kafka://host:port[,host:port]/topic`, and how its cluster is reached.

    Without a file of properties those of the stream's own source are taken if it has the same brokers.

    Raises:
        UsageError: the address, or a property, is wrong; no value of a property is part of the text.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise UsageError(f"{url}: write kafka://host:port/topic, or several host:port separated by commas.")
    brokers, topic = match.groups()
    source = config.stream(stream).source
    properties: Any = {}
    if properties_file is not None:
        properties = _read_properties(properties_file)
    elif isinstance(source, KafkaSource) and _is_same_cluster(source, brokers):
        properties = source.properties
    try:
        target = KafkaSource(
            type="kafka",
            brokers=brokers,
            topic=topic,
            properties=properties,
            timeout_seconds=min(source.timeout_seconds, _TIMEOUT_SECONDS)
            if isinstance(source, KafkaSource)
            else _TIMEOUT_SECONDS,
        )
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        place = f"{properties_file}: " if properties_file and mistakes[0]["loc"][0] == "properties" else ""
        keys = ".".join(str(part) for part in mistakes[0]["loc"])
        raise UsageError(f"{place}{keys}: {mistakes[0]['msg'].removeprefix('Value error, ')}.") from None
    return target.with_files_relative_to(properties_file.absolute().parent) if properties_file else target


def _is_same_cluster(source: KafkaSource, brokers: str) -> bool:
    """Secrets of one cluster are never shown to another."""
    addresses = source.brokers
    with contextlib.suppress(ConfigurationError):
        addresses = client_properties(source, Errors())["bootstrap.servers"]
    return {a.strip() for a in addresses.split(",")} == {a.strip() for a in brokers.split(",")}


def _read_properties(path: Path) -> Any:
    try:
        properties = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError, RecursionError):
        properties = None  # the reason would show a part of the file
    if not isinstance(properties, dict):
        raise UsageError(
            f"{path}: must hold properties as they stand under `properties` of a stream: one `name: value` a line."
        )
    return properties


@contextlib.contextmanager
def target_errors(target: KafkaSource, errors: Errors) -> Iterator[None]:
    """Turns what the brokers refuse into one sentence."""
    with kafka_errors(target, errors):
        try:
            yield
        except KafkaException as exception:
            ours = as_ours(target, exception.args[0])
            if ours is None:
                raise
            raise ours from None


def as_ours(target: KafkaSource, error: KafkaError) -> EventArchiveError | None:
    """What an error means to one who writes; None if no more than to one who reads."""
    if error.code() in _TAKEN_OVER:
        return CommitConflict(
            f"{name_of(target)}: another replay of this stream to this topic has taken over, or this one stood still for longer "
            "than a transaction may last. Nothing is written twice; if no other one runs, run the command again and it goes on."
        )
    if error.code() in _REMEDIES:
        return StorageError(
            f"{name_of(target)}: {_REMEDIES[error.code()]} ({error.name()}). Running the command again then goes on where it ended."
        )
    return None


def name_of(target: KafkaSource) -> str:
    """The topic as a person would type it."""
    return f"kafka://{target.brokers}/{target.topic}"


class TargetTopic(Topic):
    """Questions to the brokers of a topic that is written to."""

    def require(self) -> tuple[int, str]:
        """How many partitions the topic has, and its id.

        Raises:
            UsageError: there is no such topic.
            SourceUnavailable: the brokers don't answer.
        """
        until = time.monotonic() + self.source.timeout_seconds
        while not self._exists():
            # A broker that has just been restarted may not know its topics yet.
            if time.monotonic() > until - self.source.timeout_seconds * 0.9:
                raise UsageError(
                    f"{name_of(self.source)}: there is no such topic. Make it first, with as many partitions as the archived one and "
                    "retention.ms=-1, or the brokers soon delete what is old."
                )
            time.sleep(_WAIT_SECONDS)
        identity = self.identity()
        return len(identity.partitions), identity.topic_id

    def _exists(self) -> bool:
        def ask(seconds: float) -> bool:
            name = self.source.topic
            answer = self._admin.describe_topics(TopicCollection([name]), request_timeout=seconds)[name]
            try:
                answer.result()
            except KafkaException as exception:
                if exception.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return False
                raise
            return True

        return self._repeat(ask)

    def settings(self) -> dict[str, str]:
        """The topic's configuration; empty if this user may not see it."""
        resource = ConfigResource(ResourceType.TOPIC, self.source.topic)
        try:
            answer = self._admin.describe_configs([resource], request_timeout=self.source.timeout_seconds)
            return {name: str(entry.value) for name, entry in answer[resource].result().items()}
        except KafkaException:
            return {}

    def make(self, partitions: int, settings: dict[str, str]) -> None:
        """Makes the topic unless it is there."""
        new = NewTopic(self.source.topic, partitions, replication_factor=-1, config=settings)
        try:
            self._admin.create_topics([new], request_timeout=self.source.timeout_seconds)[
                self.source.topic
            ].result()
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            wanted = " ".join(f"--config {name}={value}" for name, value in settings.items())
            raise SourceUnavailable(
                f"{name_of(self.source)}: this topic is needed and could not be made ({error.str()}). Make it: kafka-topics --create "
                f"--topic {self.source.topic} --partitions {partitions} {wanted}"
            ) from None

    def holds_events(self) -> bool:
        """Whether a reader who doesn't see aborted transactions would find any event in it."""
        with contextlib.closing(read_committed(self, count=1)) as messages:
            return next(messages, None) is not None


def check_settings(target: KafkaSource, settings: dict[str, str], archived: ArchivedEvents) -> list[str]:
    """Refuses a topic whose settings would change or refuse events; warns of one that would soon delete them.

    Raises:
        UsageError: it can't take the archived events as they are.
    """
    place = name_of(target)
    if settings.get("message.timestamp.type") == "LogAppendTime":
        raise UsageError(
            f"{place}: this topic gives events the time at which they are written. Set its message.timestamp.type to CreateTime."
        )
    times = [
        file.stats[side]["timestamp_ms"]
        for file in archived.files()
        for side in ("minValues", "maxValues")
        if file.stats[side].get("timestamp_ms") is not None
    ]
    if not times:
        return []
    now_ms = int(time.time() * _MILLISECONDS)
    lies_ahead = max(times) - now_ms
    if archived.selection.bounds.is_everything and lies_ahead > _limit(
        settings, "message.timestamp.after.max.ms"
    ):
        raise UsageError(
            f"{place}: this topic takes no events from so far in the future as the newest archived one. Set its "
            "message.timestamp.after.max.ms to 9223372036854775807."
        )
    kept_ms = _limit(settings, "retention.ms")
    if "delete" in settings.get("cleanup.policy", "") and now_ms - min(times) > kept_ms >= 0:
        days = f"{kept_ms / 86_400_000:g} days"
        warning = (
            f"{place}: this topic deletes events that are older than {days}, and some of the archived ones are. Set its "
            "retention.ms to -1 to keep them."
        )
        return [warning]
    return []


def _limit(settings: dict[str, str], name: str) -> int:
    text = settings.get(name, "")
    value = int(text) if text.lstrip("-").isdigit() else -1
    return value if value >= 0 else 2**63 - 1
