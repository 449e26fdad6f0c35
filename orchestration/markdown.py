"""Texts and rows as Markdown, which is how the UI shows descriptions and some metadata.

What doesn't live here: which texts and rows.
"""

from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 120


def markdown_text(text: str | None) -> str | None:
    """Write a text so that the UI shows `<carrier>` instead of taking it for a tag."""
    return text.replace("<", "\\<") if text is not None else None


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write rows as a Markdown table; what the data holds is shown, never interpreted.

    Args:
        names: One per column.
        rows: Values of any type, as many in each row as there are names.
    """
    lines = [
        _line(names),
        _line(["---"] * len(names)),
        *(_line([_cell(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return "*null*"
    text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    # As code, so that nothing in it is markup; a backtick or a line end would close it, a bar would end the cell.
    shown = text.replace("`", "'").replace("|", "¦")
    return f"`{''.join(c if c.isprintable() else '·' for c in shown) or ' '}`"
