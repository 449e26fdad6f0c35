"""What columns a staging view has, of which types: as its description says, or as it was published.

What doesn't live here: making staging views (`staging`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from event_archive.errors import UsageError
from event_archive.scaffold import project
from event_archive.scaffold.naming import ENVELOPE_COLUMNS
from event_archive.warehouse import published_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from event_archive.config import Config


_PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Input:
    """A staging view that a mart is made of.

    Attributes:
        model: Its name.
        domain: The folder that it is in.
        types: Types of its columns, in order.
        event_types: Values of its column event_type; empty if it has none, or nothing says which.
    """

    model: str
    domain: str
    types: Mapping[str, str]
    event_types: tuple[str, ...]

    @property
    def payload_columns(self) -> list[str]:
        """Columns that come from the payload."""
        return [name for name in self.types if name not in ENVELOPE_COLUMNS]


def staging_view(config: Config, folder: Path, stream: str) -> Input:
    """The view of the accepted events of a stream.

    Args:
        config: The configuration.
        folder: The dbt project.
        stream: Name of the stream.

    Raises:
        UsageError: There is none, or nothing says what types its columns have.
    """
    found = sorted(
        path
        for path in project.model_files(folder)
        if path.stem.startswith("stg_") and path.stem.endswith(f"__{stream}")
    )
    if not found:
        raise UsageError(
            f"{stream}: {folder} has no staging model stg_<domain>__{stream}; `event-archive scaffold stream {stream}` writes it."
        )
    model = found[0].stem
    document = project.model_document(folder, model) or {}
    columns = [
        column for column in document.get("columns") or [] if isinstance(column, dict) and "name" in column
    ]
    types = {str(column["name"]): str(column["data_type"]) for column in columns if column.get("data_type")}
    if not columns or len(types) < len(columns):
        types = _published_types(config, model)
    odd = [name for name in types if not _PLAIN.fullmatch(name)]
    if odd:
        raise UsageError(
            f"{model}: a table can only be scaffolded over columns of a-z, 0-9 and _; give {', '.join(map(repr, odd))} another name there."
        )
    if not types:
        raise UsageError(
            f"{model}: nothing says what types its columns have: write `data_type` to each in its .yml, or run `event-archive refresh` once, "
            "so that they can be seen in what is published."
        )
    event_types = next((_accepted_values(column) for column in columns if column["name"] == "event_type"), ())
    return Input(model, found[0].parent.name, types, event_types if "event_type" in types else ())


def _published_types(config: Config, model: str) -> dict[str, str]:
    file = published_file(config.warehouse)
    if file is None:
        return {}
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            rows = connection.execute(
                "select column_name, lower(data_type) from information_schema.columns where table_schema = 'staging' and table_name = ? "
                "order by ordinal_position",
                [model],
            ).fetchall()
    except duckdb.Error:
        return {}
    return {str(name): str(data_type) for name, data_type in rows}


def _accepted_values(column: Mapping[str, Any]) -> tuple[str, ...]:
    tests = column.get("data_tests") or column.get("tests") or []
    for test in tests if isinstance(tests, list) else []:
        if isinstance(test, dict) and isinstance(test.get("accepted_values"), dict):
            arguments = test["accepted_values"].get("arguments") or test["accepted_values"]
            return tuple(str(value) for value in arguments.get("values") or () if "{" not in str(value))
    return ()
