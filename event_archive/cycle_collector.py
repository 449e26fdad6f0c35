"""Python's collector of reference cycles, kept out of work that makes many objects and no cycles.

It looks at all young objects again for each few hundred that are made, which takes as long as making them.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_users = 0
_was_enabled = False


@contextlib.contextmanager
def without_cycle_collector() -> Iterator[None]:
    """Switches the collector off for the whole process; it's as before when the last of all users has left."""
    global _users, _was_enabled  # noqa: PLW0603 - the collector is the process's
    with _lock:
        if not _users:
            _was_enabled = gc.isenabled()
            gc.disable()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _was_enabled:
                gc.enable()
