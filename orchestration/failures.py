"""How a run fails: with one sentence that says what to do, and tried again if that can help.

What doesn't live here: the sentences of the library; they are its own errors' texts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from event_archive.errors import CommitConflict, EventArchiveError, SourceUnavailable, StorageError
from event_archive.recompute.dbt import DbtKilled
from event_archive.warehouse import BuildSuperseded, WarehouseBusy

RETRIES = dg.RetryPolicy(max_retries=2, delay=30)
"""What is nobody's mistake is tried again: somebody else was faster, or a disk or a network was away for a moment."""

_MAY_PASS = (BuildSuperseded, CommitConflict, DbtKilled, SourceUnavailable, StorageError, WarehouseBusy)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an error that the library raised on purpose into a failure of the step with the same sentence."""
    try:
        yield
    except EventArchiveError as error:
        raise dg.Failure(description=str(error), allow_retries=isinstance(error, _MAY_PASS)) from error
