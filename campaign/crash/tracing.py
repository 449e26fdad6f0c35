"""Runs a piece of work in a fork of this process, under strace if asked to, and hears what it acknowledges.

A fork has everything imported, so it costs milliseconds; strace is attached to it before it begins, so that only its own calls are
counted. This process must have no other threads. What doesn't live here: what is done to the work (`points`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from campaign.crash.calls import CHANGING, SEEKING, SENT
from campaign.crash.strace import CannotTrace, strace_command
from event_archive.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PATIENCE_SECONDS = 60.0
_LONGEST_BYTES = 2**24

RETURNED = "returned"
REFUSED = "refused"
"""With the one clear error that a disk that fails should give."""
BROKE = "broke"
KILLED = "killed"
HUNG = "hung"


@dataclass(slots=True)
class Ended:
    """How a piece of work ended."""

    how: str = KILLED
    said: str = ""
    result: Any = None
    acknowledged: list[dict[str, Any]] = field(default_factory=list)
    pid: int = 0


def run(
    work: Callable[[Any], Any],
    *,
    trace: Path | None = None,
    options: Sequence[str] = (),
    all_threads: bool = True,
) -> Ended:
    """Runs `work`, which is given a function to acknowledge with, in a fork.

    Args:
        work: returns something that JSON can say.
        trace: where strace writes its calls; None to run it without strace.
        options: further ones of strace.
        all_threads: or only the first one is traced.
    """
    ours, theirs = socket.socketpair()
    may_begin, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(begin)
        if trace is not None:
            _stay_on_one_processor()
        _become(work, theirs, may_begin)
    theirs.close()
    os.close(may_begin)
    strace = None
    try:
        if trace is not None:
            strace = _attach(pid, trace, (*options, *(["-f"] if all_threads else [])))
        os.write(begin, b"!")
        ended = _listen(ours, pid)
    finally:
        os.close(begin)
        ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if strace is not None:
            strace.communicate()
    ended.pid = pid
    return ended


def everything() -> tuple[str, ...]:
    """Options of strace for a trace with all data in it."""
    return ("-s", str(_LONGEST_BYTES))


def injecting(call: str, number: str, *, fault: str) -> tuple[str, ...]:
    """Options of strace that do something to the n-th call of a name.

    Args:
        call: name of the call.
        number: which one, from 1; each thread counts for itself. With `+` behind it all from there on.
        fault: `signal=SIGKILL`, `error=EIO`, …
    """
    return ("-s", "0", "-e", f"inject={call}:{fault}:when={number}")


def _attach(pid: int, trace: Path, options: Sequence[str]) -> subprocess.Popen[str]:
    names = ",".join(f"?{name}" for name in (*CHANGING, SEEKING, SENT))  # not every machine has them all
    command = [
        *strace_command(),
        "-y",
        "-xx",
        "-o",
        str(trace),
        "-e",
        f"trace={names}",
        *options,
        "-p",
        str(pid),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None  # noqa: S101 - for the type checker
    said = process.stderr.readline()
    if "attached" not in said:
        process.kill()
        process.wait()
        raise CannotTrace(said.strip())
    return process


def _listen(connection: socket.socket, pid: int) -> Ended:
    ended = Ended()
    until = time.monotonic() + PATIENCE_SECONDS
    heard = b""
    while True:
        ready, _, _ = select.select([connection], [], [], max(until - time.monotonic(), 0))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            ended.how = HUNG
            ended.said = f"did not end in {PATIENCE_SECONDS:.0f} s"
            return ended
        try:
            part = connection.recv(2**16)
        except ConnectionResetError:
            part = b""
        if not part:
            return ended
        *lines, heard = (heard + part).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "acknowledged" in message:
                ended.acknowledged.append(message["acknowledged"])
            else:
                ended.how, ended.said, ended.result = message["how"], message["said"], message["result"]


def _stay_on_one_processor() -> None:
    """DuckDB and pyarrow then make no threads of their own, so that calls come in the same order each time."""
    mine = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {mine[os.getpid() % len(mine)]})


def _become(work: Callable[[Any], Any], connection: socket.socket, may_begin: int) -> NoReturn:
    how, said, result = RETURNED, "", None
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        os.read(may_begin, 1)

        def acknowledge(fact: dict[str, Any]) -> None:
            connection.sendall(json.dumps({"acknowledged": fact}).encode() + b"\n")

        result = work(acknowledge)
    except StorageError as error:
        how, said = REFUSED, str(error)
    except BaseException:  # noqa: BLE001 - it is told
        how, said = BROKE, traceback.format_exc()
    finally:
        with contextlib.suppress(BaseException):
            connection.sendall(json.dumps({"how": how, "said": said, "result": result}).encode() + b"\n")
        os._exit(0)
