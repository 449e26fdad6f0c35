"""An iterator that is run in a thread of its own, somewhat ahead of who takes its items."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")


@contextlib.contextmanager
def read_ahead(
    items: Generator[T, None, None], *, limit: int = 1, size: Callable[[T], int] = lambda _item: 1
) -> Iterator[Iterator[T]]:
    """Runs `items` in a thread, ahead of who takes them; an error is raised where its item would have been taken.

    Args:
        items: is closed in that thread when it's no longer needed.
        limit: no further item is asked for while those that wait have this size together.
        size: of an item.
    """
    ahead = _Ahead(items, limit, size)
    thread = threading.Thread(target=ahead.read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield ahead.take()
    finally:
        ahead.stop()
        thread.join()


class _Ahead(Generic[T]):
    def __init__(self, items: Generator[T, None, None], limit: int, size: Callable[[T], int]) -> None:
        self._items = items
        self._limit = limit
        self._size = size
        self._waiting: deque[T] = deque()
        self._waiting_size = 0
        self._is_stopped = False
        self._is_over = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def read(self) -> None:
        """Runs the iterator; the thread's work."""
        try:
            with contextlib.closing(self._items):
                for item in self._items:
                    if not self._put(item):
                        return
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that takes the items
            self._failure = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            self._waiting.append(item)
            self._waiting_size += self._size(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting_size < self._limit or self._is_stopped)
            return not self._is_stopped

    def take(self) -> Iterator[T]:
        """The items, for another thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_over)
                if not self._waiting:
                    break
                item = self._waiting.popleft()
                self._waiting_size -= self._size(item)
                self._changed.notify_all()
            yield item
            del item  # not held while the next one is waited for
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Lets the thread end after the item that it is at."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
