"""Running jobs from a terminal: `python -m orchestration.console rebuild`. Quiet, and recorded where the UI shows it.

What doesn't live here: what the jobs do (`jobs`).
"""

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import AssetMaterialization, AssetObservation, DagsterInstance, ExecuteInProcessResult

    from event_archive.config import Config

ROOT = Path(__file__).parent.parent
EXIT_INTERRUPTED = 130
# What happened is in the UI; a terminal is told the outcome.
_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Outcome:
    """What some jobs did.

    Attributes:
        checks: Whether each check that was evaluated passed, by asset and name.
        endings: What became of the tables, by job that was to compute them: `published`, `waiting`, `nothing new`.
        differences: In a line, how each table differs from the one published before, where that was looked at.
        waiting: Why a build waits to be published, and how that is done.
        failure: One sentence; None if all went well.
        is_interrupted: Whether somebody pressed Ctrl-C.
    """

    checks: dict[str, bool] = field(default_factory=dict)
    endings: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)
    waiting: str | None = None
    failure: str | None = None
    is_interrupted: bool = False


def use_home(root: Path) -> None:
    """Let Dagster keep its records in `root/.dagster`, unless DAGSTER_HOME says otherwise."""
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(root / ".dagster")))
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(root / "dagster.yaml", home)


def run_jobs(config: "Config", jobs: Sequence[str]) -> Outcome:
    """Run jobs one after the other in this process, until one fails.

    Args:
        config: The configuration.
        jobs: Names, such as `ingest`.
    """
    warnings.filterwarnings(
        "ignore", module="dagster"
    )  # its betas and deprecations are ours to mend, not a user's
    warnings.filterwarnings("ignore", message=".*(beta|deprecated|superseded).*")
    import dagster as dg

    from orchestration.assets_warehouse import WAREHOUSE_OP
    from orchestration.definitions import build_definitions

    repository = build_definitions(config=config).get_repository_def()
    outcome = Outcome()
    with dg.DagsterInstance.get() as instance, _interrupts() as interrupted:
        for job in jobs:
            print(f"Running the job `{job}` …", flush=True)
            ops = {"ops": {WAREHOUSE_OP: {"config": {"rebuild": True}}}} if job == "rebuild" else {}
            with contextlib.redirect_stdout(_StepCounter()):
                result = repository.get_job(job).execute_in_process(
                    instance=instance, raise_on_error=False, run_config={**_QUIET, **ops}
                )
            for evaluation in result.get_asset_check_evaluations():
                name = f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"
                outcome.checks[name] = evaluation.passed
            _note_tables(outcome, instance, job, result)
            # Dagster turns Ctrl-C into a failure of whatever step it hits, and some libraries swallow it.
            if interrupted():
                outcome.is_interrupted = True
                outcome.failure = "Interrupted. Run it again: it goes on from here."
                break
            if not result.success:
                outcome.failure = f"The job `{job}` failed: {_reason(result)}"
                break
    return outcome


def _note_tables(
    outcome: Outcome, instance: "DagsterInstance", job: str, result: "ExecuteInProcessResult"
) -> None:
    """What the step that computes tables has left in Dagster's records."""
    from orchestration.reporting import DIFFERENCE, REASON
    from orchestration.warehouse_step import ENDING_TAG

    run = instance.get_run_by_id(result.run_id)
    if run is not None and ENDING_TAG in run.tags:
        outcome.endings[job] = run.tags[ENDING_TAG]
    for event in result.all_events:
        said: AssetObservation | AssetMaterialization
        if event.is_asset_observation:
            said = event.asset_observation_data.asset_observation
        elif event.is_step_materialization:
            said = event.step_materialization_data.materialization
        else:
            continue
        if DIFFERENCE in said.metadata:
            first_line = str(said.metadata[DIFFERENCE].value).splitlines()[0]
            outcome.differences[said.asset_key.path[-1]] = first_line
        if REASON in said.metadata:
            outcome.waiting = str(said.metadata[REASON].value)


@contextlib.contextmanager
def _interrupts() -> "Iterator[Any]":
    """Give a function that says whether SIGINT has come since, whoever has handled it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def interrupted() -> bool:
        with contextlib.suppress(BlockingIOError):
            return signal.SIGINT in os.read(reading, 4096)
        return False

    try:
        yield interrupted
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _reason(result: "ExecuteInProcessResult") -> str:
    """The sentence with which a step failed on purpose, else the innermost error's first line."""
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data
        if failure.user_failure_data and failure.user_failure_data.description:
            return failure.user_failure_data.description
        error = failure.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            first_line = error.message.strip().splitlines()[0]
            return f"{first_line} (`event-archive verify` tells whether the archive is damaged; the UI has the whole error)"
    return "the UI says why (make ui)"


class _StepCounter(io.StringIO):
    """What dbt prints, as one line that counts its steps; whole it is in the UI."""

    def write(self, text: str) -> int:
        """Show the newest step on a terminal."""
        step = re.search(r"^\d+ of \d+ ", text)
        if step and sys.stderr.isatty():
            sys.stderr.write(f"\r  dbt: step {step.group()}\r")
        return len(text)


def main(jobs: Sequence[str]) -> int:
    """Run the named jobs over the configuration that `event-archive` would read here; give the exit code."""
    from event_archive.config import load_config
    from event_archive.errors import EventArchiveError
    from event_archive.warehouse import read_published

    if not jobs:
        print("Name one or more jobs: ingest, refresh, rebuild, verify_archive.", file=sys.stderr)
        return 2
    use_home(ROOT)
    try:
        config = load_config()
        outcome = run_jobs(config, jobs)
        published = read_published(config.warehouse)
    except EventArchiveError as error:
        print(error, file=sys.stderr)
        return 2
    if outcome.failure:
        print(outcome.failure, file=sys.stderr)
        return EXIT_INTERRUPTED if outcome.is_interrupted else 1
    for line in _sentences(outcome):
        print(line)
    if published:
        rows = ", ".join(f"{mart.mart} {mart.rows:,}" for mart in published.marts)
        print(f"Published: {published.build_id} ({rows})")
    return 0


def _sentences(outcome: Outcome) -> Iterator[str]:
    """What was done."""
    from orchestration.differences import NO_DIFFERENCE

    nothing_new = [job for job, ending in outcome.endings.items() if ending == "nothing new"]
    if nothing_new:
        yield "Nothing new: the tables hold everything that the archive has, and stay as they are."
    if outcome.checks or not nothing_new:
        yield f"Done: {sum(outcome.checks.values())} of {len(outcome.checks)} checks passed."
    changed = {name: said for name, said in outcome.differences.items() if not said.startswith(NO_DIFFERENCE)}
    for name, said in sorted(changed.items()):
        yield f"  {name}: {said}"
    if outcome.differences and not changed:
        yield f"None of {len(outcome.differences)} tables differs from what was published before."
    if outcome.waiting:
        yield outcome.waiting


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
