"""A compacted topic as the place for heads, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from event_archive import layout
from event_archive.heads.head import decode_document, read_head
from event_archive.heads.recorded import recorded_faults
from tests.kafka.topics import consumed

if TYPE_CHECKING:
    from demo.kafka.broker import Kafka
    from tests.conftest import Project


def record_in(project: Project, bootstrap: str, topic: str) -> None:
    """Lets the configuration name a topic for heads."""
    text = project.config_file.read_text()
    place = f"heads: {{kafka: {{brokers: '{bootstrap}', topic: {topic}}}}}"
    project.config_file.write_text(f"{place}\n{text}")


def ingest_one(project: Project, number: int) -> tuple[str, ...]:
    """One commit; gives the warnings."""
    project.write(f"{number}.jsonl", b'{"n": 1}\n' * (number + 1))
    return project.ingest().warnings


def test_heads_are_kept_in_a_compacted_topic(project: Project, kafka: Kafka) -> None:
    """It is made if there is none; the key is the stream, and the newest value is the newest head."""
    topic = f"heads-{project.folder.name}".replace("_", "-")
    record_in(project, kafka.bootstrap, topic)
    for number in range(3):
        assert ingest_one(project, number) == ()
    ((_, key, value, _, _), *rest) = consumed(kafka.bootstrap, topic)[0][::-1]
    assert len(rest) == 2
    assert key == b"events"
    assert decode_document(value).streams == {"events": read_head(project.store)}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    assert admin.describe_configs([resource])[resource].result()["cleanup.policy"].value == "compact"
    assert recorded_faults(project.config(), "events") == []


def test_the_last_witness_of_a_cut_is_not_overwritten(project: Project, kafka: Kafka) -> None:
    """A topic forgets the older head when a newer one comes: so an archive that doesn't contain it any more adds none."""
    topic = f"heads-{project.folder.name}-cut".replace("_", "-")
    record_in(project, kafka.bootstrap, topic)
    for number in range(2):
        ingest_one(project, number)
    kept = read_head(project.store)
    (project.table / layout.entry_name(2)).unlink()
    (fault,) = recorded_faults(project.config(), "events")
    assert "was cut off" in fault
    assert topic in fault
    (warning,) = ingest_one(project, 2)
    assert "THE HEAD WAS NOT RECORDED" in warning
    value = consumed(kafka.bootstrap, topic)[0][-1][2]
    assert decode_document(value).streams == {"events": kept}
    assert recorded_faults(project.config(), "events") != []


def test_brokers_that_do_not_answer_stop_no_ingest(project: Project) -> None:
    """The warning says where the head should have gone."""
    record_in(project, "localhost:1", "heads")
    (warning,) = ingest_one(project, 0)
    assert "THE HEAD WAS NOT RECORDED" in warning
    assert "localhost:1" in warning
    (fault,) = recorded_faults(project.config(), "events")
    assert "can't be read" in fault
