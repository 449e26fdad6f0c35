"""Plays a history with the DuckDB of this interpreter, whatever its version, and prints what the tables are: `test_determinism` starts it.

What doesn't live here: which version that is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb

from tests.recompute.property import both_ways, some_histories
from tests.recompute.replay import ReplayedWarehouse
from tests.recompute.statements import Statements


def digests(statements: Statements, *, count: int, number: int) -> list[dict[str, str]]:
    """The digests of the marts after each of some histories, which a refresh in steps must give as a rebuild does."""
    warehouse = ReplayedWarehouse(statements, keeps_digests=True)
    found = []
    for history in some_histories([model.name for model in statements.models], count=count, number=number):
        in_steps, rebuilt = both_ways(warehouse, history)
        assert in_steps == rebuilt
        found.append(warehouse.digests)
    warehouse.connection.close()
    return found


def main() -> None:
    """Prints the version of DuckDB, and the digests."""
    file, count, number = sys.argv[1:]
    statements = Statements.from_json(Path(file).read_text())
    made = digests(statements, count=int(count), number=int(number))
    print(json.dumps({"version": duckdb.__version__, "digests": made}))  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    main()
