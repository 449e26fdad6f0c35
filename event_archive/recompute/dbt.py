"""Running dbt: a process of its own, whose structured log says how far it is, and what it came to.

What doesn't live here: which models it is told to build (`run`). This library never imports dbt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_archive.errors import EventArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

QUIET = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1"}
"""Nothing phones home, whatever dbt's own default is."""

_NAMED = 3
_REMEDIES = {
    "max_temp_directory_size": "raise `compute.max_spill_bytes` in the configuration",
    "Out of Memory Error": "raise `compute.memory_bytes` in the configuration, or lower `compute.threads`,",
    "No space left on device": "make room on the disk",
    "File too large": "make room on the disk",
    "a Parquet file": "let `event-archive verify` name what is damaged and put it back,",
    "No magic bytes": "let `event-archive verify` name what is damaged and put it back,",
}
"""What to do about what DuckDB says, the first that fits."""
_HEADER = re.compile(r"\w+ Error( in \w+ .*)?$")
_FAILED = ("error", "fail", "runtime error", "partial success")
_BUILT = "success"
_FINISHED = "NodeFinished"
_STARTED = "NodeStart"


class BuildFailed(EventArchiveError):
    """A model could not be built or a check failed; what is published stays as it was."""


class DbtKilled(EventArchiveError):
    """dbt was ended from outside, say because the machine was short of memory; trying again may help."""


@dataclass(frozen=True)
class DbtProgress:
    """How far dbt is.

    Attributes:
        done: Models and checks that have ended.
        total: How many there are; 0 while dbt doesn't know yet.
        running: Names of the models and checks that are under way.
    """

    done: int
    total: int
    running: tuple[str, ...]


@dataclass(frozen=True)
class DbtRun:
    """What a run of dbt came to.

    Attributes:
        results: What run_results.json says of each model and check, by unique id; empty if dbt stopped before the first.
        errors: What dbt logged as errors, in order.
        invocation_id: dbt's name for the run.
        is_success: Whether every model was built and every check passed.
    """

    results: Mapping[str, Mapping[str, Any]]
    errors: tuple[str, ...]
    invocation_id: str | None
    is_success: bool

    @property
    def built(self) -> tuple[str, ...]:
        """Unique ids of the models that were built."""
        return tuple(
            unique_id
            for unique_id, result in self.results.items()
            if unique_id.startswith(("model.", "seed.", "snapshot.")) and result["status"] == _BUILT
        )

    @property
    def passed(self) -> tuple[str, ...]:
        """Unique ids of the checks that passed, without a warning."""
        return tuple(
            unique_id
            for unique_id, result in self.results.items()
            if unique_id.startswith(("test.", "unit_test.")) and result["status"] in ("pass", "success")
        )

    @property
    def checks(self) -> tuple[int, int]:
        """How many checks passed, and how many there were."""
        checks = [result for name, result in self.results.items() if name.startswith(("test.", "unit_test."))]
        return sum(result["status"] in ("pass", "warn", "success") for result in checks), len(checks)

    @property
    def failure(self) -> str | None:
        """What failed, in one sentence with what to do; None if nothing did."""
        return None if self.is_success else failure_sentence(self.results.values(), self.errors)


@dataclass
class _Following:
    """What has been read of dbt's log so far."""

    on_message: Callable[[str], None]
    total: int = 0
    done: int = 0
    running: dict[str, None] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def take(self, line: str) -> bool:
        """Take in one line of the log; whether it tells of progress."""
        try:
            event = json.loads(line)
            info, data = event["info"], event["data"]
        except (ValueError, KeyError, TypeError):
            self.other.append(line)
            return False
        if info["level"] != "debug":
            self.on_message(info["msg"])
        if info["level"] == "error":
            self.errors.append(info["msg"])
        node = data.get("node_info", {}).get("node_name", "")
        if info["name"] == _STARTED:
            self.running[node] = None
        elif info["name"] == _FINISHED:
            self.running.pop(node, None)
            self.done += 1
        elif info["name"] == "LogStartLine":
            self.total = int(data.get("total", 0))
        else:
            return False
        return True


def run_dbt(
    project: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    target: Path,
    on_progress: Callable[[DbtProgress], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> DbtRun:
    """Run one command of dbt to its end; it dies with this process' process group.

    Args:
        project: Folder of the dbt project.
        arguments: Command and its options, such as `build --select carts`.
        environment: Variables by which dbt finds the archive and the build; see `Build.environment`.
        target: Folder for what dbt writes about its run.
        on_progress: Called whenever a model or a check has begun or ended.
        on_message: Called with what dbt says to people.

    Raises:
        DbtKilled: Somebody else has ended dbt.
    """
    command = [
        dbt_executable(),
        *("--log-format", "json"),
        *("--log-level", "debug"),
        *("--log-level-file", "none"),
        *arguments,
        *("--project-dir", str(project)),
        *("--profiles-dir", str(project)),
        *("--target-path", str(target)),
        *("--log-path", str(target)),
    ]
    _use_parsed(project, target)
    following = _Following(on_message)
    with subprocess.Popen(  # noqa: S603 - our own project, no shell
        command,
        cwd=project,
        env={**os.environ, **QUIET, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                if following.take(line):
                    on_progress(DbtProgress(following.done, following.total, tuple(following.running)))
        except BaseException:
            process.kill()
            raise
    if process.returncode < 0:
        raise DbtKilled(
            f"The published tables stay as they were: dbt was ended from outside ({signal.strsignal(-process.returncode)}); run this "
            "again, and if the machine is short of memory, with less of it as `compute.memory_bytes` in the configuration."
        )
    results, invocation_id = read_results(target)
    if process.returncode and not following.errors:
        following.errors.extend(line for line in following.other if line.strip())
    return DbtRun(
        results=results,
        errors=tuple(following.errors),
        invocation_id=invocation_id,
        is_success=process.returncode == 0,
    )


def read_results(target: Path) -> tuple[dict[str, Mapping[str, Any]], str | None]:
    """Read run_results.json: the result of each model and check, and dbt's name for the run; none if dbt wrote none."""
    try:
        document = json.loads((target / "run_results.json").read_bytes())
    except (FileNotFoundError, ValueError):  # dbt stopped before the first model, or while it wrote
        return {}, None
    results = {result["unique_id"]: result for result in document["results"]}
    return results, document["metadata"].get("invocation_id")


def dbt_executable() -> str:
    """Name the dbt of this virtual environment; PATH need not have it.

    Raises:
        BuildFailed: There is none.
    """
    beside = Path(sys.executable).with_name("dbt")
    found = str(beside) if beside.exists() else shutil.which("dbt")
    if found is None:
        raise BuildFailed("dbt isn't installed here; `pip install 'event-archive[transform]'` brings it.")
    return found


def failure_sentence(results: Iterable[Mapping[str, Any]], errors: Sequence[str]) -> str:
    """Say in one sentence what failed and what to do.

    Args:
        results: Items of run_results.json.
        errors: What dbt logged as errors.
    """
    kept = "The published tables stay as they were: "
    failed = [result for result in results if result["status"] in _FAILED]
    said = "\n".join([*(str(result.get("message")) for result in failed), *(() if failed else errors)])
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in said), None)
    if not failed:
        first = first_line(errors[0]) if errors else "dbt ended early"
        return f"{kept}dbt stopped ({first}); {remedy or 'correct that'} and run this again."
    named = [_what_failed(result) for result in failed[:_NAMED]]
    if len(failed) > _NAMED:
        named.append(f"{len(failed) - _NAMED} more")
    return f"{kept}{', '.join(named)}; {remedy or 'correct the models or what they read'} and run this again."


def first_line(message: str) -> str:
    """The line of dbt's message that says most: the database's own, where there is one; of a broken contract, which columns."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = [line for line in lines if line.partition(":")[0].endswith("Error")]
    told = [line for line in lines if not _HEADER.match(line)]
    # | column_name | definition_type | contract_type | mismatch_reason |, and a rule
    rows = [" ".join(line.replace("|", " ").split()) for line in lines if line.startswith("|")][2:]
    known = [line for line in lines if any(part in line for part in _REMEDIES)]
    first = (known or said or told or lines or [message])[0]
    return "; ".join([first, *rows])[:300]


def _what_failed(result: Mapping[str, Any]) -> str:
    kind, _, name = result["unique_id"].split(".")[:3]
    if result["status"] == "fail":
        rows = result.get("failures")
        return (
            f"check {name} found {rows:,} row{'' if rows == 1 else 's'}" if rows else f"check {name} failed"
        )
    return f"{kind} {name} could not be built ({first_line(result['message'] or 'no reason given')})"


def _use_parsed(project: Path, target: Path) -> None:
    """Let dbt begin with what it knows of the project already; without that it parses everything again."""
    parsed = project / "target" / "partial_parse.msgpack"
    if parsed.exists():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parsed, target / parsed.name)
