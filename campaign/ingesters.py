"""Ingests, and other commands, as processes of their own: started in milliseconds, watched, frozen, killed.

What doesn't live here: the process that forks them (`fork_server`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from campaign.truth import TruthFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from campaign.faults import Fault

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.002


@dataclass(slots=True)
class Command:
    """One `event-archive` command that runs, or ran."""

    server: Forks
    pid: int
    output: Path
    errors: Path
    code: int | None = None
    """Exit code once it has ended; minus the signal that ended it."""

    def is_running(self) -> bool:
        """Whether it has not ended; frozen counts as running."""
        if self.code is None:
            self.code = self.server.poll(self.pid)
        return self.code is None

    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return self.is_running() and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Waits for its end and returns its exit code.

        Raises:
            TruthFailed: it doesn't end.
        """
        until = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > until:
                self.kill()
                raise TruthFailed(f"a command did not end in {seconds:.0f} s; it said: {self.said()}")
            time.sleep(_POLL_SECONDS)
        return self.code  # type: ignore[return-value] # it has ended

    def wait_frozen(self, seconds: float = PATIENCE_SECONDS) -> bool:
        """Waits until it stands still; False if it ended instead."""
        until = time.monotonic() + seconds
        while not self.is_frozen():
            if not self.is_running():
                return False
            if time.monotonic() > until:
                raise TruthFailed(f"a command did not come to where it is frozen; it said: {self.said()}")
            time.sleep(_POLL_SECONDS)
        return True

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens if it has ended."""
        if self.is_running():
            os.kill(self.pid, number)

    def kill(self) -> bool:
        """Ends it as `kill -9` does; False if it had ended before."""
        self.send(signal.SIGKILL)
        while self.is_running():
            time.sleep(_POLL_SECONDS)
        return self.code == -signal.SIGKILL

    def freeze(self) -> None:
        """Stops all its threads where they are."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.send(signal.SIGCONT)

    def end(self) -> int:
        """Asks it to end (SIGTERM), and waits for that."""
        self.send(signal.SIGTERM)
        return self.wait()

    def end_well(self) -> None:
        """Asks it to end, which it must do with exit code 0.

        Raises:
            TruthFailed: it ends otherwise, or has already.
        """
        if not self.is_running() or self.end() != 0:
            raise TruthFailed(f"an ingest that follows ended with {self.code}: {self.said()}")

    def said(self) -> str:
        """What it wrote on stderr until now."""
        return self.errors.read_text(errors="replace").strip()

    def answer(self) -> Any:
        """What it wrote on stdout, as JSON."""
        return json.loads(self.output.read_text())


@dataclass(slots=True)
class Forks:
    """The process that forks commands, for as long as the context lasts."""

    folder: Path
    _process: subprocess.Popen[str] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _number: int = 0

    def __enter__(self) -> Self:
        """Starts it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.fork_server"],
            cwd=ROOT,
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",  # threads don't survive forks
                "PYTHONWARNINGS": "ignore::DeprecationWarning",  # that pyarrow has one all the same, which does nothing
                "NO_COLOR": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it and all that it has started."""
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=10)
            self._process.kill()
            self._process.wait()

    def run(self, arguments: Sequence[str], *, folder: Path, faults: Sequence[Fault] = ()) -> Command:
        """Starts a command of `event-archive` in `folder`, with faults that it is to have."""
        self._number += 1
        output, errors = (self.folder / f"{self._number}.{kind}" for kind in ("out", "err"))
        for file in (output, errors):
            file.touch()
        pid = self._ask(
            do="run",
            arguments=list(arguments),
            folder=str(folder),
            out=str(output),
            err=str(errors),
            faults=list(faults),
        )
        return Command(self, pid, output, errors)

    def poll(self, pid: int) -> int | None:
        """Exit code of a command, None while it runs."""
        answer: int | None = self._ask(do="poll", pid=pid)
        return answer

    def _ask(self, **order: Any) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the fork server isn't started")
        with self._lock:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise TruthFailed("the process that forks commands has ended")
        return json.loads(line)
