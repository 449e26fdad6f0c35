"""Builds of the warehouse, and what differs between two, as tables for people and as JSON for programs.

What doesn't live here: the commands (`builds`), and how a difference is found (`event_archive.warehouse.diff`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from event_archive.cli import render
from event_archive.warehouse.builds import BuildState
from event_archive.warehouse.record import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from event_archive.warehouse.builds import KnownBuild
    from event_archive.warehouse.diff import BuildDiff, MartDiff
    from event_archive.warehouse.diff_rows import RowsDiff

_REMOVED_SHOWN = 20


def print_builds(builds: Sequence[KnownBuild]) -> None:
    """Which builds there are, newest first; of those that are removed only the newest."""
    removed = [build for build in builds if build.state is BuildState.REMOVED]
    left_out = {build.build_id for build in removed[_REMOVED_SHOWN:]}
    table = render.new_table(
        "build", "state", "finished (UTC)", "mode", "by", "events", "size",
        left=("build", "state", "finished (UTC)", "mode", "by"),
    )  # fmt: skip
    for build in builds:
        if build.build_id in left_out:
            continue
        size = "-" if build.size_bytes is None else render.human_bytes(build.size_bytes)
        if build.record is None:
            table.add_row(build.build_id, build.state, "-", "-", "its record can't be read", "-", size)
            continue
        record = build.record
        events = ", ".join(f"{name} {seen.events:,}" for name, seen in record.streams.items())
        table.add_row(
            build.build_id,
            build.state,
            f"{record.finished_at:%Y-%m-%d %H:%M:%S}",
            record.mode + (f" as of {_visible(record.as_of)}" if record.as_of else ""),
            _visible(record.built_by),
            _visible(events) or "-",
            size,
        )
    if not builds:
        Console().print("Nothing has been built yet.")
        return
    render.print_table(table)
    if left_out:
        Console().print(f"And {len(left_out):,} older ones, of which only the record is left (--json).")


def builds_document(builds: Iterable[KnownBuild]) -> dict[str, Any]:
    """The same for programs, all of them."""
    return {
        "builds": [
            {
                "build_id": build.build_id,
                "state": build.state.value,
                "size_bytes": build.size_bytes,
                "problem": build.problem,
                "record": None if build.record is None else json.loads(to_json(build.record)),
            }
            for build in builds
        ]
    }


def print_diff(difference: BuildDiff, *, samples: bool = True) -> None:
    """What differs, mart by mart, and then for each mart in which rows and columns.

    Args:
        difference: From build A to build B.
        samples: Whether some of the rows are shown too.
    """
    console = Console(soft_wrap=True)
    console.print(_visible(f"From {difference.a} to {difference.b}:"))
    table = render.new_table(
        "mart", "difference", "rows before", "rows after", "added", "removed", "changed",
        left=("mart", "difference"),
    )  # fmt: skip
    for mart in difference.marts:
        rows = mart.rows
        counts = (rows.added, rows.removed, rows.changed) if rows else (0, 0, 0)
        shown = ["-" if mart.is_equal or not count else f"{count:,}" for count in counts]
        table.add_row(
            _visible(mart.mart),
            difference_in_words(mart),
            "-" if mart.rows_a is None else f"{mart.rows_a:,}",
            "-" if mart.rows_b is None else f"{mart.rows_b:,}",
            *shown,
        )
    render.print_table(table)
    for mart in difference.marts:
        for line in _details(mart, samples=samples):
            console.print(_visible(line))


def difference_in_words(mart: MartDiff) -> str:
    """In a few words, how a mart differs."""
    if not mart.is_in_a:
        return "new"
    if not mart.is_in_b:
        return "gone"
    if mart.is_equal:
        return "none"
    return " and ".join(
        word
        for word, is_so in (("columns", not mart.has_same_columns), ("rows", mart.rows is not None))
        if is_so
    )


def _details(mart: MartDiff, *, samples: bool) -> list[str]:
    lines = [
        *(f"  column {name} ({kind}) is new" for name, kind in mart.columns_added.items()),
        *(f"  column {name} ({kind}) is gone" for name, kind in mart.columns_removed.items()),
        *(f"  column {name} was {old}, is {new}" for name, (old, new) in mart.columns_retyped.items()),
    ]
    if mart.rows is not None:
        lines += _rows(mart.rows, samples=samples)
    return [f"{mart.mart}:", *lines] if lines else []


def _rows(rows: RowsDiff, *, samples: bool) -> list[str]:
    lines = []
    if rows.changed_columns:
        columns = ", ".join(f"{name} in {count:,}" for name, count in rows.changed_columns.items())
        lines.append(f"  {rows.changed:,} {'row' if rows.changed == 1 else 'rows'} changed: {columns}")
    if not rows.key:
        lines.append(
            "  nobody has said which columns tell its rows apart: a changed row is one removed and one added"
        )
    if not samples:
        return lines
    for sample in rows.changed_samples:
        changed = ", ".join(
            f"{name} {_value(old)} → {_value(new)}" for name, (old, new) in sample.changed.items()
        )
        lines.append(f"  ~ {_row(sample.key)}: {changed}")
    lines += [f"  + {_row(sample)}" for sample in rows.added_samples]
    lines += [f"  - {_row(sample)}" for sample in rows.removed_samples]
    return lines


def _row(values: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(text: str | None) -> str:
    return "null" if text is None else json.dumps(text, ensure_ascii=False)


def _visible(text: str) -> str:
    """Nothing that a terminal, or rich, would obey."""
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))
