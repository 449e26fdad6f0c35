"""Shows that the tests can fail: puts one bug at a time into a copy of our code, and expects the tests named for it to turn red.

`python -m campaign.planted_bugs --help`. What doesn't live here: the bugs (`mutations`).
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from campaign.ingesters import ROOT
from campaign.mutations import BUGS, Bug, Edit
from demo.kafka.jars import CACHE_VARIABLE, version_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORT = ROOT / "docs" / "planted-bugs.md"
ROWS = range(1, 15)
_TEST_SECONDS = 240
_GREEN, _RED = 0, 1
_FAILED = re.compile(r"^FAILED (.+?)(?: - (.*))?$", re.MULTILINE)
_TAIL_CHARACTERS = 3000


class BugNotPlanted(Exception):
    """The text that a bug replaces isn't there, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one bug."""

    bug: Bug
    is_caught: bool
    by: str
    """The test that failed, and why; or what happened instead."""
    seconds: float


def planted(text: str, edit: Edit) -> str:
    """The text of a file with an edit made.

    Raises:
        BugNotPlanted: what it replaces doesn't stand there exactly once.
    """
    if (count := text.count(edit.old)) != 1:
        raise BugNotPlanted(f"{edit.file}: {edit.old!r} stands there {count} times instead of once")
    return text.replace(edit.old, edit.new)


def main() -> int:
    """Plants the bugs that were asked for; 0 if all were caught."""
    asked = _arguments()
    bugs = [bug for bug in BUGS if not asked.only or any(word in bug.name for word in asked.only)]
    if asked.rows:
        bugs = [bug for bug in bugs if bug.row in asked.rows]
    if asked.list:
        print("\n".join(f"{bug.row or '-'}  {bug.name}" for bug in bugs))
        return 0
    with tempfile.TemporaryDirectory(prefix="planted-bugs-", dir=asked.folder) as folder:
        trees = [_copy(Path(folder) / str(number)) for number in range(asked.jobs)]
        if not asked.skip_baseline and (failure := _baseline(trees[0], bugs, asked.jobs)):
            print(f"Without any bug the tests must be green, and they are not:\n{failure}")
            return 1
        outcomes = _try_all(bugs, trees)
    survivors = [outcome for outcome in outcomes if not outcome.is_caught]
    uncaught = [
        row for row in ROWS if row not in {outcome.bug.row for outcome in outcomes if outcome.is_caught}
    ]
    is_whole = len(bugs) == len(BUGS)
    print(f"{len(outcomes) - len(survivors)} of {len(outcomes)} bugs were caught.")
    for outcome in survivors:
        print(f"SURVIVED: {outcome.bug.name}: {outcome.by}")
    if is_whole and uncaught:
        print(f"No bug was caught by rows {uncaught} of the campaign.")
    if asked.report and is_whole and not survivors:
        asked.report.write_text(_written(outcomes), encoding="utf-8")
        print(f"written: {asked.report}")
    return 1 if survivors or (is_whole and uncaught) else 0


def _copy(folder: Path) -> Path:
    """Copies the tree: all that git knows or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    imported = subprocess.run(
        [sys.executable, "-c", "import event_archive, sys; sys.stdout.write(event_archive.__file__)"],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if not Path(imported).is_relative_to(folder):
        raise BugNotPlanted(f"tests of the copy would import {imported}")
    return folder


def _environment(tree: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        "COLUMNS": "300",  # for the reason behind the name of a test
        "PYTHONDONTWRITEBYTECODE": "1",  # else a file that was put back could be taken for the one with the bug
        CACHE_VARIABLE: str(version_folder().parent),
    }


def _pytest(tree: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        f"timeout={_TEST_SECONDS}",
    ]
    return subprocess.run(
        [*command, *arguments],
        cwd=tree,
        env=_environment(tree),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _baseline(tree: Path, bugs: Sequence[Bug], jobs: int) -> str:
    """The end of what the tests say that fail without any bug; empty if all are green."""
    sets = {bug.tests for bug in bugs}
    simple = sorted(
        {test for tests in sets if "-m" not in tests for test in tests if "::" in test or ".py" in test}
    )
    runs = [("-n", str(jobs), "--dist=worksteal", *simple), *(tests for tests in sets if "-m" in tests)]
    for arguments in runs:
        print(f"without a bug: {len(arguments)} sets of tests …", flush=True)
        done = _pytest(tree, arguments)
        if done.returncode != _GREEN:
            return done.stdout[-_TAIL_CHARACTERS:] + done.stderr[-_TAIL_CHARACTERS:]
    return ""


def _try_all(bugs: Sequence[Bug], trees: Sequence[Path]) -> list[Outcome]:
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def run(bug: Bug) -> Outcome:
        tree = free.get()
        try:
            outcome = _try(bug, tree)
        finally:
            free.put(tree)
        word = "caught  " if outcome.is_caught else "SURVIVED"
        print(f"{word} {outcome.seconds:4.0f} s  {bug.name}: {outcome.by}", flush=True)
        return outcome

    with ThreadPoolExecutor(len(trees)) as pool:
        return list(pool.map(run, bugs))


def _try(bug: Bug, tree: Path) -> Outcome:
    started = time.monotonic()
    before = {edit.file: (tree / edit.file).read_text(encoding="utf-8") for edit in bug.edits}
    try:
        for edit in bug.edits:
            path = tree / edit.file
            path.write_text(planted(path.read_text(encoding="utf-8"), edit), encoding="utf-8")
        done = _pytest(tree, ["-x", *bug.tests])
    finally:
        for file, text in before.items():
            (tree / file).write_text(text, encoding="utf-8")
    seconds = time.monotonic() - started
    failed = _FAILED.search(done.stdout)
    if done.returncode == _RED and failed:
        reason = (failed[2] or "").strip()
        return Outcome(bug, is_caught=True, by=f"{failed[1].rpartition('::')[2]} ({reason})", seconds=seconds)
    if done.returncode == _GREEN:
        return Outcome(bug, is_caught=False, by="all tests are green", seconds=seconds)
    # No test failed: the bug broke an import, say, and shows nothing.
    end = (done.stdout + done.stderr)[-_TAIL_CHARACTERS:]
    return Outcome(bug, is_caught=False, by=f"pytest ended with {done.returncode}: {end}", seconds=seconds)


def _written(outcomes: Sequence[Outcome]) -> str:
    """The report as Markdown."""
    lines = [
        "# Planted bugs",
        "",
        "Written by `make planted-bugs` from its last run; don't edit it by hand.",
        "",
        "Each of these bugs was put into a copy of our code, alone; the test beside it turned red. The row is the one of the",
        "[campaign](campaign.md) that has to catch it.",
        "",
        "| bug | row | caught by |",
        "|---|---|---|",
        *(
            f"| {outcome.bug.name} | {outcome.bug.row or ''} | `{outcome.by.partition(' (')[0]}` |"
            for outcome in outcomes
        ),
        "",
    ]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m campaign.planted_bugs",
        description="Puts one bug at a time into a copy of our own code and expects the tests named for it to turn red. Exit code "
        "1 if a bug survives.",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="WORDS", help="only bugs whose name contains one of these"
    )
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        metavar="N",
        help="only bugs that these rows of the campaign must catch",
    )
    parser.add_argument(
        "--jobs", type=int, default=max((os.cpu_count() or 2) - 1, 1), help="how many at once (%(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="name them, and end")
    parser.add_argument(
        "--skip-baseline",
        action="store_true",
        help="don't look first whether the tests are green without a bug",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the copies go; the system's temporary folder if not given"
    )
    parser.add_argument(
        "--report",
        type=Path,
        help=f"write a table there (`make planted-bugs` writes {REPORT.relative_to(ROOT)})",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
