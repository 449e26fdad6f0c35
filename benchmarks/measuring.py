"""Running a command and taking its wall time and peak memory.

What doesn't live here: what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One run of a command."""

    seconds: float
    peak_mb: float
    output: str


def run(*command: str, cwd: Path | None = None) -> Figure:
    """Runs `command` and waits for it.

    Raises:
        SystemExit: the command failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return Figure(seconds, usage.ru_maxrss / 1024, text)


def event_archive(*arguments: str, cwd: Path) -> Figure:
    """Runs the command line of the project."""
    return run(sys.executable, "-m", "event_archive", *arguments, cwd=cwd)


def median(figures: list[Figure]) -> Figure:
    """The run of middle length."""
    return sorted(figures, key=lambda figure: figure.seconds)[len(figures) // 2]


def write_config(folder: Path, *streams: str) -> None:
    """A configuration with one file stream per name, each with a landing folder of that name."""
    text = "archive: archive\nwarehouse: warehouse\nstreams:\n"
    for name in streams:
        text += f"  {name}:\n    source: {{type: files, path: landing/{name}}}\n"
        (folder / "landing" / name).mkdir(parents=True)
    (folder / "event_archive.yaml").write_text(text)
