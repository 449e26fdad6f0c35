"""A child process that dies with its parent, however the parent dies; what runs in it is not known here."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# The child writes its own pid to the watchdog before it becomes the command, so there is no moment at which the
# parent can die and leave it behind. The watchdog's input ends when the parent is gone: the kernel closes it even
# after kill -9. (Linux' PR_SET_PDEATHSIG would fire when the *thread* that started the child ends.)
_WATCHDOG = 'read -r pid && { read -r nothing; kill -9 "$pid"; }'
_BECOME_THE_COMMAND = 'log=$1; shift; echo $$; exec "$@" >>"$log" 2>&1'


def _hear_sigterm() -> None:
    """A signal that a process ignores, its children ignore too, and Java, or a shell, can't be asked not to: this one asks it to end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class OwnedProcess:
    """A command in a session of its own, with output appended to a file.

    It's killed when this process ends, also by kill -9. Children that this process forks without `exec` keep it alive
    for as long as they live.
    """

    def __init__(self, command: Sequence[str], log_file: Path) -> None:
        """Starts the command."""
        self._watchdog = subprocess.Popen(  # noqa: S603 - arguments of our own
            ["/bin/sh", "-c", _WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._process = subprocess.Popen(  # noqa: S603 - arguments of our own
            ["/bin/sh", "-c", _BECOME_THE_COMMAND, "sh", str(log_file), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._watchdog.stdin,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_hear_sigterm,  # noqa: PLW1509 - it takes no lock
        )

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the command has not ended; frozen counts as running."""
        return self._process.poll() is None

    def freeze(self) -> None:
        """Stops the command with all its threads (SIGSTOP), and returns when it has stopped."""
        self._process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens if the command has ended."""
        self._process.send_signal(number)

    def end(self, *, grace_seconds: float = 0) -> bool:
        """Asks the command to end (SIGTERM), kills it when the grace is over; without grace kills it at once.

        Returns:
            Whether it ended without being killed.
        """
        clean = False
        if grace_seconds:
            self.send(signal.SIGTERM)
            try:
                self._process.wait(grace_seconds)
                clean = True
            except subprocess.TimeoutExpired:
                pass
        self._process.kill()
        self._process.wait()
        self._watchdog.kill()
        self._watchdog.communicate()
        return clean
