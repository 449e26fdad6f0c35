"""Ctrl-C and SIGTERM as the commands that compute take them: one way out, also while DuckDB is at work in this process.

DuckDB asks Python for signals between its steps. What a handler raises there is lost: a RuntimeError comes out instead.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_SIGTERM = 128 + signal.SIGTERM


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does: by an exception, so that dbt ends too and nothing is left behind."""
    has_come = False

    def end(*_: object) -> None:
        nonlocal has_come
        has_come = True
        sys.exit(_BY_SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except RuntimeError as error:
        if has_come and is_interrupted(error):
            sys.exit(_BY_SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def is_interrupted(error: RuntimeError) -> bool:
    """Whether DuckDB has ended a query because of a signal."""
    return str(error) == "Query interrupted"
