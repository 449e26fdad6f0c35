"""Runs one query over no archive and writes its result to standard output: what the command does, without its configuration."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import cast

from event_archive.errors import EventArchiveError
from event_archive.sql import output, sandbox
from event_archive.sql.limits import limit_process_memory


def peak_kilobytes() -> int:
    """Peak memory of this program; `ru_maxrss` would include that of the test runner, from which it was forked."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def main() -> int:
    """Run the query of the command line; the settings come from the environment."""
    # A runner in the background of a shell ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PROCESS_MEMORY" in os.environ:
        limit_process_memory(int(os.environ["PROCESS_MEMORY"]))
    connection = sandbox.connect(
        {},
        None,
        memory_limit=os.environ.get("MEMORY_LIMIT", "500MB"),
        threads=2,
        temp_directory=Path(os.environ["TEMPORARY"]) if "TEMPORARY" in os.environ else None,
        max_temp_directory_size=os.environ.get("SPILL_LIMIT", "200MB"),
        lock_process="LOCK_PROCESS" in os.environ,
    )
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    try:
        if "UNCHECKED" in os.environ:
            connection.execute(sys.argv[2])
            return 0
        return output.run(
            connection, sys.argv[2], cast("output.Format", sys.argv[1]), sys.stdout.buffer, width=100
        )
    except EventArchiveError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 2
    finally:
        sandbox.close(connection)
        sys.stderr.write(f"peak_kilobytes={peak_kilobytes()}\n")


if __name__ == "__main__":
    sys.exit(main())
