"""How clients of a cluster are set up: the properties of librdkafka, values from the environment or files, and its errors.

Values are never part of an error message or a log: they may be secrets. What doesn't live here: which properties may be
set (`event_archive.source_config`).
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException

from event_archive.errors import ConfigurationError, EventArchiveError, SourceProblem, SourceUnavailable
from event_archive.source_config import SecretFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.source_config import KafkaSource

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHORTEST_SECRET = 3
_WORKED = (
    "in state UP"  # what librdkafka says of a connection that it loses, as against one that it never had
)
_HANDSHAKE = "in state SSL_HANDSHAKE"

_REMEDIES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "there is no such topic; check `topic`, or make it",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this user may not read the topic; grant READ and DESCRIBE on it",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "this user may not use the group; grant READ on it, or set another `group`",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "this user may not ask the cluster; grant DESCRIBE on it",
    KafkaError.SASL_AUTHENTICATION_FAILED: "the brokers refused the user; check sasl.mechanism, sasl.username and sasl.password",
    KafkaError._AUTHENTICATION: "the brokers refused the user; check sasl.mechanism, sasl.username and sasl.password",  # noqa: SLF001 - its public name
    KafkaError._SSL: "TLS could not be agreed on; check security.protocol and ssl.ca.location",  # noqa: SLF001 - its public name
}


class Errors:
    """The newest errors that a client has reported of its connections, for messages about why nothing comes."""

    def __init__(self) -> None:
        self.newest: KafkaError | None = None
        self.has_lost_brokers = False
        """Whether there was a moment without a connection to any broker."""

    def note(self, error: KafkaError) -> None:
        """Takes in an error."""
        self.has_lost_brokers |= error.code() == KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - its public name
        # That all brokers are down only sums up what was said of each.
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self.newest is None:  # noqa: SLF001 - its public name
            self.newest = error


def client_properties(source: KafkaSource, errors: Errors, **more: Any) -> dict[str, Any]:
    """Properties of a client for the cluster of `source`.

    Args:
        source: the configuration.
        errors: is told of broken connections.
        more: properties by name, with `_` for `.`; they take precedence.

    Raises:
        ConfigurationError: an environment variable or a file that a value names isn't there.
    """
    given = {name: _value(f"properties.{name}", value) for name, value in source.properties.items()}
    return {
        "client.id": "event-archive",
        "log_level": 0,  # what goes wrong comes as errors; librdkafka would write on stderr
        "socket.timeout.ms": max(1000, int(min(source.timeout_seconds, 60) * 1000)),
        **given,
        "bootstrap.servers": _value("brokers", source.brokers),
        "error_cb": errors.note,
        **{name.replace("_", "."): value for name, value in more.items()},
    }


def _value(name: str, value: Any) -> Any:
    if isinstance(value, SecretFile):
        try:
            return value.file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise ConfigurationError(f"{name}: {value.file} can't be read ({reason}).") from error
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match.group(1))
        if found is None:
            raise ConfigurationError(
                f"{name}: the environment variable {match.group(1)} is not set; set it, or write the value into "
                "a file and name that: {file: PATH}."
            )
        return found

    return _VARIABLE.sub(variable, value)


@contextlib.contextmanager
def kafka_errors(source: KafkaSource, errors: Errors | None = None) -> Iterator[None]:
    """Turns what the client refuses into one sentence, without the values of any property."""
    try:
        yield
    except KafkaException as exception:
        raise _as_ours(source, exception.args[0], errors) from None


def _as_ours(source: KafkaSource, error: KafkaError, errors: Errors | None) -> EventArchiveError:
    code = error.code()
    if errors and errors.newest and code in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):  # noqa: SLF001 - public names
        error, code = errors.newest, errors.newest.code()
    if _HANDSHAKE in error.str():  # said with the code of whatever fails first
        code = KafkaError._SSL  # noqa: SLF001 - its public name
    place = f"topic {source.topic} at {source.brokers}"
    if code in (KafkaError._INVALID_ARG, KafkaError._CONFLICT, KafkaError._NOT_IMPLEMENTED):  # noqa: SLF001 - public names
        return ConfigurationError(f"{place}: {_without_values(source, error.str())}.")
    if code in _REMEDIES:
        return SourceProblem(f"{place}: {_REMEDIES[code]} ({error.name()}).")
    return SourceUnavailable(f"{place}: {_without_values(source, error.str())}. Check that the brokers run.")


def unavailable(source: KafkaSource, errors: Errors, seconds: float) -> EventArchiveError:
    """The error for brokers that have said nothing for so long."""
    if errors.newest is not None:
        return _as_ours(source, errors.newest, None)
    return SourceUnavailable(
        f"topic {source.topic} at {source.brokers}: nothing was heard of the brokers for {seconds:.0f} s."
    )


def _without_values(source: KafkaSource, text: str) -> str:
    for name, value in source.properties.items():
        with contextlib.suppress(ConfigurationError):
            plain = str(_value(name, value))
            if len(plain) >= _SHORTEST_SECRET:
                text = text.replace(plain, "***")
    return text.rstrip(".")
