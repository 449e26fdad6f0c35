"""Names of columns, models and domains.

What doesn't live here: which columns there are (`fields`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

import duckdb

from event_archive import layout
from event_archive.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

ENVELOPE_COLUMNS = {
    "source_id": "Where the event came from.",
    "source_partition": "Partition at the source.",
    "source_offset": "Ordinal in the source partition; with source_id and source_partition it names the event for ever.",
    "commit_version": "Archive commit that brought the event.",
    "ingested_at": "When it was archived.",
    "source_time": "The record's own timestamp at its source; null if it has none.",
}
ENVELOPE_TYPES = {
    "source_id": "varchar",
    "source_partition": "integer",
    "source_offset": "bigint",
    "commit_version": "bigint",
    "ingested_at": "timestamp with time zone",
    "source_time": "timestamp with time zone",
}
_TAKEN = {
    *ENVELOPE_COLUMNS,
    "value",
    "payload",
    "types",
    "texts",
    "rejection_reason",
    "rejected_value",
    "outcome",
    # of the log of a model's changes
    "change_version",
    "is_added",
}
_LONGEST = 50


@cache
def keywords() -> frozenset[str]:
    """Words that DuckDB takes for a column's name in quotes only."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category not in ('unreserved', 'column_name')"
        ).fetchall()
    return frozenset(str(word) for (word,) in rows)


def column_names(
    paths: Iterable[tuple[str, ...]], given: dict[tuple[str, ...], str]
) -> dict[tuple[str, ...], str]:
    """A column's name for each path: its steps in snake case, each name once.

    Args:
        paths: Steps of each path.
        given: Names that are fixed beforehand.
    """
    names = dict(given)
    taken = {*_TAKEN, *keywords(), *given.values()}
    for keys in paths:
        if keys in names:
            continue
        name = plain = column_name(keys)
        number = 2
        if name in keywords():
            name = plain = f"{name}_"
        # With that of its offset, which a timestamp has beside it.
        while name in taken or f"{name}_utc_offset" in taken:
            name, number = f"{plain}_{number}", number + 1
        taken |= {name, f"{name}_utc_offset"}
        names[keys] = name
    return names


def column_name(keys: tuple[str, ...]) -> str:
    """`("fare", "amountCents")` as `fare_amount_cents`, `("Größe",)` as `grosse`."""
    words = []
    for key in keys:
        word = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
        plain = unicodedata.normalize("NFKD", word.casefold())
        plain = "".join(c for c in plain if not unicodedata.combining(c))
        words.append(re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "field")
    name = "_".join(word for word in words if word)[:_LONGEST].strip("_")
    return name if re.match(r"[a-z]", name) else f"field_{name}"


def free_name(plain: str, taken: Collection[str]) -> str:
    """A name that isn't taken: as it is, or with a number."""
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def check_name(name: str, what: str) -> str:
    """Refuses what can't be a name of a model, a domain or a stream.

    Raises:
        UsageError: it can't.
    """
    if not layout.STREAM_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r}: no name of a {what}: use a-z, 0-9 and _, begin with a letter, at most 63 characters."
        )
    return name
