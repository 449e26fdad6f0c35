"""What can be made to go wrong in an ingest at an exact moment of a commit: it stands still, it dies, it gets no answer.

The moments are calls to the operating system, so the code under test stays as it is. What doesn't live here: faults from
outside, at moments that are watched or random (`rows`).
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
import resource
import signal
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable

Moment = Literal["before data", "before link", "after link", "after sync"]
"""When a data file is written and not yet synced; around the call that makes its commit visible; and behind the sync of the
log's folder, which makes the commit durable.
"""

LANDED: tuple[Moment, ...] = ("after link", "after sync")
MOMENTS: tuple[Moment, ...] = ("before data", "before link", *LANDED)

_ENTRY = re.compile(r"([0-9]{20})\.json")


class Fault(TypedDict, total=False):
    """One thing that goes wrong."""

    moment: Moment
    """When; not for `jump` and `limit`."""
    do: Literal["stop", "die", "fail", "meet", "jump", "limit"]
    """Stand still (SIGSTOP), die (SIGKILL), an I/O error, wait for others, the clock goes back, no large files."""
    entry: int
    """At the n-th entry that this process makes, from 1; the table's creation doesn't count. 0 for the creation."""
    folder: str
    """Where those that meet say that they are there."""
    parties: int
    """How many meet."""
    after_calls: int
    """After how many questions for the time it jumps."""
    seconds: float
    """How far."""
    file_bytes: int
    """How large a file may get at most."""


def prepare(faults: list[Fault]) -> None:
    """Lets this process have these faults."""
    for fault in faults:
        if fault["do"] == "jump":
            _jump(fault["after_calls"], fault["seconds"])
        elif fault["do"] == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault["file_bytes"], resource.RLIM_INFINITY))
        else:
            calls = _Calls(fault)
            os.link = calls.link  # type: ignore[assignment]
            os.fsync = calls.fsync  # type: ignore[assignment]


class _Calls:
    """The two calls to the operating system around which a commit is made, with one fault at its moment."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._link, self._fsync = os.link, os.fsync
        self._entries = self._data_files = 0
        self._here = threading.local()
        """Whether the next sync of this thread is that of a data file, or the one that `after sync` waits for."""

    def link(self, source: Any, target: Any) -> None:
        """Instead of `os.link`."""
        counts = self._counts(os.path.basename(target))  # noqa: PTH119 - what the call was given
        if counts and self._fault["moment"] == "before link":
            _act(self._fault)
        self._link(source, target)
        if counts and self._fault["moment"] == "after link":
            _act(self._fault)
        self._here.is_due = counts and self._fault["moment"] == "after sync"
        self._here.is_data = True  # what is synced next is a data file, after the folder

    def fsync(self, handle: int) -> None:
        """Instead of `os.fsync`."""
        if getattr(self._here, "is_data", True) and stat.S_ISREG(os.fstat(handle).st_mode):
            self._here.is_data = False
            self._data_files += 1
            if self._fault["moment"] == "before data" and self._data_files == self._fault["entry"]:
                _act(self._fault)
        self._fsync(handle)
        if getattr(self._here, "is_due", False):
            self._here.is_due = False
            _act(self._fault)

    def _counts(self, name: str) -> bool:
        match = _ENTRY.fullmatch(name)
        if match is None:
            return False
        if int(match.group(1)) == 0:
            return self._fault["entry"] == 0
        self._entries += 1
        return self._entries == self._fault["entry"]


def _act(fault: Fault) -> None:
    match fault["do"]:
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal is on its way
        case "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case "meet":
            folder = Path(fault["folder"])
            (folder / str(os.getpid())).touch()
            until = time.monotonic() + 30
            while len(list(folder.iterdir())) < fault["parties"] and time.monotonic() < until:
                time.sleep(0.001)


def _jump(after_calls: int, seconds: float) -> None:
    """The wall clock of Python goes back after it was asked so often; librdkafka's and the file system's don't."""
    calls = 0
    real_now = dt.datetime.now
    real_time: Callable[[], float] = time.time
    # Libraries in C look at the class once, when they are imported, and at its size.
    import numpy  # noqa: F401, ICN001
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    original = dt.datetime

    def shift() -> float:
        nonlocal calls
        calls += 1
        return seconds if calls > after_calls else 0.0

    class _Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, original)

    class JumpingTime(original, metaclass=_Kind):  # type: ignore[misc,valid-type]
        @classmethod
        def now(cls, zone: dt.tzinfo | None = None) -> dt.datetime:
            return real_now(zone) + dt.timedelta(seconds=shift())

    dt.datetime = JumpingTime  # type: ignore[misc]
    time.time = lambda: real_time() + shift()
