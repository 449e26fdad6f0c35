"""Clusters that ask who is there: how to connect is configuration, and secrets show up nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from demo.kafka.security import Security
from event_archive.errors import ConfigurationError, SourceProblem
from tests.kafka.topics import QUICK, configure, numbered, send

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project
    from tests.kafka.conftest import PrivateKafka

PASSWORD = "s3cret-and-long"  # noqa: S105 - of a broker that lives as long as the test
USERS = {"archive": PASSWORD}


def filled(kafka: Kafka) -> str:
    """A topic with ten events."""
    kafka.create_topic("events")
    producer = Producer({**kafka.client_properties, **QUICK})
    send(producer, "events", numbered(0, 10))
    assert producer.flush(30) == 0
    return "events"


FROM_ENVIRONMENT = "${KAFKA_PASSWORD}"


def properties(kafka: Kafka, password: str = "") -> str:
    """YAML of the properties that a client of this cluster needs."""
    needed = {**kafka.security_properties, **({"sasl.password": password} if password else {})}
    return "properties:\n" + "".join(f"  {name}: {value}\n" for name, value in needed.items())


@pytest.mark.parametrize(
    "security",
    [
        Security("SASL_PLAINTEXT", mechanism="PLAIN", users=USERS),
        Security("SASL_SSL", mechanism="SCRAM-SHA-512", users=USERS),
    ],
    ids=lambda security: security.protocol,
)
def test_a_password_comes_from_the_environment_or_a_file(
    security: Security, project: Project, private_kafka: PrivateKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a wrong one is told without showing it."""
    kafka = private_kafka(security=security)
    topic = filled(kafka)
    configure(project, kafka.bootstrap, topic, source=properties(kafka, FROM_ENVIRONMENT))
    with pytest.raises(ConfigurationError, match=r"sasl\.password.*KAFKA_PASSWORD is not set"):
        project.ingest()
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    assert project.ingest().events == 10

    (project.folder / "password").write_text(PASSWORD + "\n")
    configure(project, kafka.bootstrap, topic, source=properties(kafka, "{file: password}"))
    assert project.ingest().problems == ()
    assert PASSWORD not in repr(project.config())

    monkeypatch.setenv("KAFKA_PASSWORD", "guessed-wrongly")
    wrong = properties(kafka, FROM_ENVIRONMENT) + "timeout_seconds: 2\n"
    configure(project, kafka.bootstrap, topic, source=wrong)
    done = project.run("ingest")
    assert done.returncode == 1
    assert "the brokers refused the user" in done.stderr
    shown = project.run("status")
    assert "guessed-wrongly" not in done.stdout + done.stderr + shown.stdout + shown.stderr
    assert "refused the user" in shown.stderr


def test_a_client_certificate_opens_the_door(project: Project, private_kafka: PrivateKafka) -> None:
    """Without it, or without the authority's, the error says that TLS is the matter."""
    kafka = private_kafka(security=Security("SSL", client_certificate=True))
    topic = filled(kafka)
    configure(project, kafka.bootstrap, topic, source=properties(kafka))
    assert project.ingest().events == 10
    source = "properties: {security.protocol: SSL}\ntimeout_seconds: 2"
    configure(project, kafka.bootstrap, topic, source=source)
    with pytest.raises(SourceProblem, match="TLS could not be agreed on"):
        project.ingest()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sasl.kerberos.kinit.cmd: touch /tmp/x", "not among the properties"),
        ("plugin.library.paths: /tmp/evil.so", "not among the properties"),
        ("auto.offset.reset: earliest", "set by event-archive"),
        ("check.crcs: false", "set by event-archive"),
        ("isolation.level: read_uncommitted", "write `isolation`"),
    ],
)
def test_properties_that_could_harm_are_refused(line: str, reason: str, project: Project) -> None:
    """Some run a shell or load code; others decide whether events are lost."""
    configure(project, "localhost:9092", "events", source=f"properties:\n  {line}")
    with pytest.raises(ConfigurationError, match=reason):
        project.config()


def test_a_value_that_the_client_refuses_is_not_shown(project: Project) -> None:
    """It may be a secret in the wrong place."""
    source = "properties:\n  security.protocol: my-secret-value\n"
    configure(project, "localhost:9092", "events", source=source)
    with pytest.raises(ConfigurationError) as refused:
        project.ingest()
    assert "security.protocol" in str(refused.value)
    assert "my-secret-value" not in str(refused.value)
