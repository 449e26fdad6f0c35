"""A project whose stream is a topic, without a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.fixture
def topic_project(project: Project) -> Project:
    """A project whose stream `events` is a topic; nothing answers at its brokers."""
    project.config_file.write_text(
        "archive: archive\nwarehouse: warehouse\nstreams:\n  events:\n"
        "    source: {type: kafka, brokers: 'localhost:1', topic: events, timeout_seconds: 1}\n"
    )
    return project
