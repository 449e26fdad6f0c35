"""Where a delivery's lines can go: files of a landing folder (`landing.py`) or a topic (`topic_outlet.py`).

What happens to lines on the way there isn't decided here (`delivery.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import PurePosixPath


class Line(NamedTuple):
    """A line on its way.

    Attributes:
        text: The line without its end.
        key: Whom it is about; None if it doesn't say.
    """

    text: bytes
    key: bytes | None = None


class Output(Protocol):
    """Takes the lines that one server writes during one day."""

    def write(self, line: Line, end: bytes, at_us: int) -> object:
        """Take one line.

        Args:
            line: The line; an empty one is no event.
            end: What a file has after it, with a line feed as its last byte.
            at_us: Now, in microseconds since 1970.
        """

    def close(self) -> object:
        """Take note that nothing more will come."""


class Outlet(Protocol):
    """Where the lines of one stream go."""

    def open(self, server: str, path: PurePosixPath) -> Output:
        """Open what a server writes its next lines to; `path` is the file's, in a landing folder."""

    def confirm(self) -> object:
        """Return when all lines that were written are where a service may forget them; raise if they can't get there."""

    def finish(self) -> object:
        """Confirm, once all outputs are closed, that there is exactly what was written."""
