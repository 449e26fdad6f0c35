"""Lays rows of text out as a table that fits a terminal and can't command it.

Control characters, and those that turn the direction of text or are invisible, are shown as escapes: what an event
holds is shown to a person, never obeyed by the terminal. What doesn't live here: the text of values (`rendering`).
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEPARATOR = " | "
# Below this, a column can't be read any more: rows are then shown one field per line.
_NARROWEST = 8
_NULL = "NULL"
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    r"""Write a text so that a terminal shows it and does nothing else.

    Args:
        text: Any text.

    Returns:
        The text, with each character that isn't printable as an escape such as `\n`, `\x1b` or `\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004 - the widest that \x can say
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the widest that \u can say


def cells(text: str) -> int:
    """Count the terminal cells that a printable text takes.

    Args:
        text: A text without control characters.

    Returns:
        Two for each wide character (CJK, emoji), none for each combining one, one for each other.
    """
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Cut a printable text to a number of cells.

    Args:
        text: A text without control characters.
        width: How many cells it may take, at least 1.

    Returns:
        The text, or its beginning and `…`.
    """
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for character in text:
        used += _width(character)
        if used > width - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


class TableLayout:
    """Lays out the rows of one result, chunk by chunk, each as soon as it is known."""

    def __init__(self, names: Sequence[str], *, numbers: Sequence[bool], width: int) -> None:
        self._names = [printable(name) for name in names]
        self._numbers = numbers
        self._width = max(width, _NARROWEST)
        self._wanted = [max(cells(name), 1) for name in self._names]
        self._given: list[int] | None = None
        self._rows = 0
        self._fits = (_NARROWEST + len(_SEPARATOR)) * len(names) - len(_SEPARATOR) <= self._width

    def rows(self, rows: Sequence[Sequence[str | None]]) -> str:
        """Lay out the next rows.

        Args:
            rows: The text of each value, or None for null.

        Returns:
            Lines, with a heading where it is the first chunk or one that needs wider columns.
        """
        texts = [[_NULL if text is None else printable(text) for text in row] for row in rows]
        for column in range(len(self._names)):
            widest = max((cells(row[column]) for row in texts), default=0)
            self._wanted[column] = max(self._wanted[column], min(widest, self._width))
        # Many narrow columns may fit although as many wide ones would not.
        if not self._fits and sum(self._wanted) + len(_SEPARATOR) * (len(self._wanted) - 1) > self._width:
            return self._one_field_per_line(texts)
        lines = []
        given = _share(self._wanted, self._width - len(_SEPARATOR) * (len(self._wanted) - 1))
        if given != self._given:
            self._given = given
            lines += [self._line(self._names, given), "-+-".join("-" * cell_width for cell_width in given)]
        lines += [self._line(row, given) for row in texts]
        self._rows += len(texts)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def end(self) -> str:
        """Give the last line: how many rows there were."""
        return f"({self._rows:,} row{'' if self._rows == 1 else 's'})\n"

    def _line(self, texts: Sequence[str], widths: Sequence[int]) -> str:
        padded = []
        for text, width, is_number in zip(texts, widths, self._numbers, strict=True):
            shown = cut(text, width)
            space = " " * (width - cells(shown))
            padded.append(space + shown if is_number else shown + space)
        return _SEPARATOR.join(padded)

    def _one_field_per_line(self, texts: Sequence[Sequence[str]]) -> str:
        # From here on for the whole result, whatever the next chunk holds.
        self._wanted = [self._width] * len(self._wanted)
        longest = min(max(cells(name) for name in self._names), self._width // 2)
        lines = []
        for row in texts:
            self._rows += 1
            lines.append(cut(f"-[ row {self._rows} ]".ljust(self._width, "-"), self._width))
            for name, text in zip(self._names, row, strict=True):
                shown = cut(name, longest)
                space = " " * (longest - cells(shown))
                lines.append(
                    f"{shown}{space}{_SEPARATOR}{cut(text, max(self._width - longest - len(_SEPARATOR), 1))}"
                )
        return "".join(f"{line.rstrip()}\n" for line in lines)


def _share(wanted: Sequence[int], width: int) -> list[int]:
    """Share a width among columns: narrow ones get what they want, wide ones what is left, equally."""
    given = list(wanted)
    left, open_columns = width, sorted(range(len(wanted)), key=lambda column: wanted[column])
    while open_columns:
        column = open_columns.pop(0)
        given[column] = max(min(wanted[column], left // (len(open_columns) + 1)), 1)
        left -= given[column]
    return given
