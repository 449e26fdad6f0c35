"""A process that has imported everything and forks one `event-archive` command after the other.

So they start in milliseconds, and a kill at a random moment falls into the work, not into Python's start.

Orders come as lines of JSON on the standard input, answers go to the standard output. It makes no client of Kafka itself:
their threads would not survive the fork. When the input ends, it kills what still runs, and ends.

What doesn't live here: who gives the orders (`ingesters`), and what goes wrong in a child on purpose (`faults`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from typing import Any, NoReturn

# For the forks: all that commands import late.
import event_archive.accept
import event_archive.cli.app
import event_archive.cli.following
import event_archive.sources.kafka.accept
import event_archive.sources.kafka.ingest
import event_archive.status
import event_archive.verify  # noqa: F401
from campaign.faults import prepare
from event_archive.cli import main


def serve() -> None:
    """Takes orders until there are no more."""
    gc.collect()
    gc.freeze()
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "run":
            pid = os.fork()
            if pid == 0:
                _become(order)
            running.add(pid)
            answer: Any = pid
        else:
            ended, status = os.waitpid(order["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            running.discard(ended)
        print(json.dumps(answer), flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)


def _become(order: dict[str, Any]) -> NoReturn:
    """The child: the command line, with the order's arguments, folder and output."""
    os.setsid()
    with open(os.devnull) as nothing, open(order["out"], "wb") as out, open(order["err"], "wb") as err:  # noqa: PTH123 - handles
        os.dup2(nothing.fileno(), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    os.chdir(order["folder"])
    os.environ["COLUMNS"] = "1000"
    sys.argv = ["event-archive", *order["arguments"]]
    prepare(order["faults"])
    main()
    sys.exit(0)


if __name__ == "__main__":
    serve()
