"""How a run fails: with one sentence that says what to do.

What doesn't live here: the sentences of the library; they are its own errors' texts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from event_archive.errors import EventArchiveError


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn an error that the library raised on purpose into a failure of the step with the same sentence."""
    try:
        yield
    except EventArchiveError as error:
        raise dg.Failure(description=str(error)) from error
