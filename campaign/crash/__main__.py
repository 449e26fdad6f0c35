"""Disturbs one operation in a process of its own, and says what came of it as JSON. What doesn't live here: how (`points`)."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

# For the forks: all that operations import late.
import deltalake  # noqa: F401
import duckdb  # noqa: F401
import pyarrow.parquet  # noqa: F401

from campaign.crash.operations import operations
from campaign.crash.points import FAULTS, commits_seen, observe, try_points

_ROOM_BYTES = 2**29


def main() -> int:
    """Tries the points that were asked for; 0 if the operation stood them all."""
    known = operations()
    asked = _arguments(sorted(known))
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="crash-", dir=asked.folder or _quick_folder()) as folder:
        operation = known[asked.operation]
        undisturbed = observe(operation, Path(folder))
        if asked.calls:
            for call in undisturbed.calls:
                inside = "*" if call.changes(undisturbed.folder) else " "
                print(
                    f"{inside} {call.thread} {call.number} {call.told(undisturbed.folder)} = {call.result} {call.error}"
                )
        seen = commits_seen(undisturbed)
        part, parts = (int(number) for number in asked.part.split("/"))
        tally = try_points(
            operation,
            undisturbed,
            Path(folder),
            fault=asked.fault,
            part=part - 1,
            parts=parts,
            limit=asked.points,
        )
    found = {"tally": tally.as_json(), "seen": dataclasses.asdict(seen)}
    print(json.dumps(found, indent=None if asked.brief else 1))
    return 1 if tally.failures or seen.faults else 0


def _quick_folder() -> Path | None:
    """One in memory, where there is one: syncing costs nothing there, and what would be lost is computed, not tried."""
    folder = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM_BYTES else None


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m campaign.crash",
        description="Disturbs an operation at each call that changes a file, recovers, and checks everything. Exit code 1 if anything is "
        "lost, doubled, changed or left over.",
    )
    parser.add_argument("operation", choices=names)
    parser.add_argument(
        "--fault", choices=FAULTS, default="kill", help="what happens at each point (%(default)s)"
    )
    parser.add_argument("--points", type=int, default=0, help="so many of them, spread evenly; 0 for all")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only one of N parts of the points")
    parser.add_argument("--calls", action="store_true", help="first list the calls of the operation")
    parser.add_argument("--brief", action="store_true", help="the result on one line")
    parser.add_argument(
        "--folder", type=Path, help="where its data goes, and is removed; in memory if not given"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        code = main()
    finally:
        gc.unfreeze()  # else DuckDB's module complains of leaks at the end
    sys.exit(code)
