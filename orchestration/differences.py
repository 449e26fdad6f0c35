"""What a build changes in the published tables, as the sentences and the Markdown that the UI shows.

What doesn't live here: finding it out (`event_archive.warehouse.diff`).
"""

from collections.abc import Iterator

from event_archive.warehouse import BuildDiff, MartDiff
from event_archive.warehouse.diff_rows import RowsDiff
from orchestration.markdown import markdown_table

NO_DIFFERENCE = "no difference"


def in_words(mart: MartDiff) -> str:
    """Say in a line what differs in a mart."""
    if not mart.is_in_a:
        return f"new, {mart.rows_b or 0:,} rows"
    if not mart.is_in_b:
        return f"gone, it had {mart.rows_a or 0:,} rows"
    if mart.is_equal:
        return NO_DIFFERENCE
    return "; ".join([*_columns_in_words(mart), *([_rows_in_words(mart.rows)] if mart.rows else [])])


def as_markdown(mart: MartDiff, difference: BuildDiff) -> str:
    """Show what differs in a mart, and some of the rows in which it does."""
    parts = [f"{in_words(mart)}, from build {difference.a}"]
    if mart.rows is not None:
        parts += _samples(mart.rows)
    return "\n\n".join(parts)


def lines(difference: BuildDiff) -> Iterator[str]:
    """Say of each mart that differs how, in a line; of none, that none does."""
    for mart in difference.marts:
        if not mart.is_equal:
            yield f"{mart.mart}: {in_words(mart)}"
    if difference.is_equal:
        yield f"No table differs from those of build {difference.a}."


def _columns_in_words(mart: MartDiff) -> Iterator[str]:
    for what, names in (
        ("added", mart.columns_added),
        ("removed", mart.columns_removed),
        ("of another type", mart.columns_retyped),
    ):
        if names:
            yield f"column{'s' if len(names) > 1 else ''} {', '.join(names)} {what}"


def _rows_in_words(rows: RowsDiff) -> str:
    counts = {"added": rows.added, "removed": rows.removed, "changed": rows.changed}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    said[0] = said[0].replace(" ", " rows " if not said[0].startswith("1 ") else " row ", 1)
    columns = ", ".join(f"{name} in {count:,}" for name, count in rows.changed_columns.items())
    return ", ".join(said) + (f" ({columns})" if columns else "")


def _samples(rows: RowsDiff) -> Iterator[str]:
    if rows.changed_samples:
        changes = [
            [*row.key.values(), column, before, after]
            for row in rows.changed_samples
            for column, (before, after) in row.changed.items()
        ]
        yield "Changed, for example:"
        yield markdown_table([*rows.changed_samples[0].key, "column", "before", "after"], changes)
    for what, samples in (("Added", rows.added_samples), ("Removed", rows.removed_samples)):
        if samples:
            yield f"{what}, for example:"
            yield markdown_table(list(samples[0]), [list(sample.values()) for sample in samples])
