"""A project whose stream is a topic, as Dagster sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from event_archive.status import stream_status
from tests.kafka.topics import configure, wait_for
from tests.orchestration.conftest import Ran, make_place

if TYPE_CHECKING:
    from tests.conftest import Project
    from tests.orchestration.conftest import Place

KEY = dg.AssetKey(["event_archive", "events"])


@dataclass(frozen=True)
class TopicPlace:
    """A project and the broker of its topic; nothing of Dagster is kept between two calls but its records."""

    project: Project
    bootstrap: str
    topic: str
    instance: dg.DagsterInstance

    def place(self, stream: str = "", source: str = "") -> Place:
        """What Dagster makes of the configuration; arguments are further YAML of the source and the stream."""
        configure(self.project, self.bootstrap, self.topic, source=source, stream=stream)
        text = self.project.config_file.read_text(encoding="utf-8")
        return replace(make_place(self.project.folder, config_text=text), instance=self.instance)

    def run(self, job: str, stream: str = "", source: str = "") -> Ran:
        """Runs a job to its end, well or not."""
        return self.place(stream, source).run(job)

    def check(self, name: str, stream: str = "", source: str = "") -> Any:
        """Evaluates one check alone, as its button in the UI does."""
        definitions = self.place(stream, source).definitions
        job = definitions.get_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection={dg.AssetCheckKey(KEY, name)}
        )
        ran = Ran(job.execute_in_process(instance=self.instance, raise_on_error=False))
        (evaluation,) = ran.checks.values()
        assert evaluation.check_name == name
        return evaluation


def wait_until_decided(here: TopicPlace) -> None:
    """Until no transaction holds anything back: brokers write that one has ended a moment after they were told."""
    wait_for(lambda: stream_status(here.project.config(), "events").lag.held_back == 0)


def facts(evaluation: Any) -> dict[str, Any]:
    """The metadata of a check."""
    return {name: value.value for name, value in evaluation.metadata.items()}
