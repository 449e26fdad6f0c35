"""The descriptions of a stream's staging models: what was observed of each column, what is to be filled in, and tests.

What doesn't live here: their SQL (`staging_sql`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.scaffold.fields import DATA_TYPES
from event_archive.scaffold.naming import ENVELOPE_COLUMNS, ENVELOPE_TYPES
from event_archive.scaffold.staging_parts import ENVELOPE_ADDED, whole
from event_archive.scaffold.text import yaml_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from event_archive.scaffold.fields import Field
    from event_archive.scaffold.staging_parts import Staging


def source_yml(staging: Staging) -> str:
    """The stream as a source of dbt."""
    return whole(
        [
            "sources:",
            "  - name: event_archive",
            "    database: event_archive",
            "    schema: archive",
            "    tables:",
            f"      - name: {staging.stream}",
            f"        description: {yaml_string('TODO: what these events say, one row per archived event.')}",
            "        config:",
            "          meta:",
            "            dagster:",
            f'              asset_key: ["event_archive", "{staging.stream}"]',
        ]
    )


def decoded_yml(staging: Staging) -> str:
    """The description of the decoded table."""
    description = (
        f"Every archived event of {staging.stream}, decoded once, with what became of it; the other staging models are views of this one, so "
        "that no event is stored twice, one row per archived event."
    )
    return whole(
        [
            *_model_lines(f"{staging.model}_decoded", description),
            "    data_tests:",
            "      - outcomes_add_up:",
            "          arguments:",
            f"            stream: {staging.stream}",
            "    columns:",
            *_envelope_lines(ENVELOPE_ADDED),
            *_payload_lines(staging, with_tests=False),
            *_column_lines(
                "rejection_reason",
                "Why the event is not accepted, null if nothing is wrong with it.",
                "varchar",
            ),
            *_column_lines("rejected_value", "Its exact bytes if it is rejected, else null.", "blob"),
            *_column_lines("outcome", "accepted, rejected or duplicate.", "varchar"),
            *_accepted_values(["accepted", "rejected", "duplicate"]),
        ]
    )


def accepted_yml(staging: Staging) -> str:
    """The description of what is accepted, to be filled in."""
    description = f"TODO: what these events say. Accepted events of {staging.stream}, typed, each once, one row per event."
    return whole(
        [
            *_model_lines(staging.model, description),
            "    columns:",
            *_payload_lines(staging, with_tests=True),
            *_envelope_lines(ENVELOPE_ADDED),
        ]
    )


def rejected_yml(staging: Staging) -> str:
    """The description of what is rejected."""
    description = (
        f"Archived events of {staging.stream} that today's models cannot accept, kept with the reason until a newer model can, one row per "
        "archived event."
    )
    return whole(
        [
            *_model_lines(f"{staging.model}_rejected", description),
            "    columns:",
            *_envelope_lines(ENVELOPE_ADDED[:-1]),
            *_column_lines(
                "reason", "What is wrong first; the words are those of the macro rejection_reason.", "varchar"
            ),
            "        data_tests:",
            "          - not_null",
            *_identity_lines(staging),
            *_column_lines("value", "Its exact bytes.", "blob"),
        ]
    )


def duplicates_yml(staging: Staging) -> str:
    """The description of redeliveries."""
    description = "Redeliveries: accepted otherwise, but an event with the same event_id was archived before, one row per archived event."
    identity = _identity_lines(staging)
    return whole(
        [
            *_model_lines(f"{staging.model}_duplicates", description),
            "    columns:",
            *_envelope_lines(ENVELOPE_ADDED[:-1]),
            *identity[:3],
            "        data_tests:",
            "          - not_null",
            "          - relationships:",
            "              arguments:",
            f"                to: ref('{staging.model}')",
            "                field: event_id",
            *identity[3:],
        ]
    )


def _model_lines(name: str, description: str) -> list[str]:
    return ["models:", f"  - name: {name}", f"    description: {yaml_string(description)}"]


def _column_lines(name: str, description: str, data_type: str) -> list[str]:
    return [
        f"      - name: {name}",
        f"        description: {yaml_string(description)}",
        f"        data_type: {data_type}",
    ]


def _envelope_lines(names: Iterable[str]) -> list[str]:
    return [
        line for name in names for line in _column_lines(name, ENVELOPE_COLUMNS[name], ENVELOPE_TYPES[name])
    ]


def _identity_lines(staging: Staging) -> list[str]:
    lines = _column_lines("event_id", "The event's id.", _id_type(staging))
    if staging.columns.event_types:
        lines += _column_lines("event_type", "Its type.", "varchar")
    return lines


def _id_type(staging: Staging) -> str:
    return DATA_TYPES[staging.columns.fields[0].type] if staging.columns.has_event_id else "varchar"


def _payload_lines(staging: Staging, *, with_tests: bool) -> Iterator[str]:
    if not staging.columns.has_event_id:
        text = "Position of the event in the archive: the events have no id of their own, so a redelivery is another event."
        yield from _column_lines("event_id", text, "varchar")
        if with_tests:
            yield from ("        data_tests:", "          - unique", "          - not_null")
    for field in staging.columns.fields:
        yield from _column_lines(field.name, _observed(field), DATA_TYPES[field.type])
        if with_tests:
            yield from _tests(field, staging)
        if field.type == "timestamp":
            text = f"Offset that was written with {field.name}, such as -05:00 or Z."
            yield from _column_lines(f"{field.name}_utc_offset", text, "varchar")


def _observed(field: Field) -> str:
    examples = f"; for example {', '.join(field.examples)}" if field.examples else ""
    return f"TODO: what it means. Observed: {field.observed}{examples}."


def _tests(field: Field, staging: Staging) -> Iterator[str]:
    tests = []
    if field.name == "event_id":
        tests.append("          - unique")
    if field.is_always_there:
        tests.append("          - not_null")
    if field.name == "event_type":
        tests += [
            "          - accepted_values:",
            "              arguments:",
            f"                values: [{', '.join(yaml_string(name) for name in staging.columns.event_types)}]",
        ]
    if tests:
        yield "        data_tests:"
        yield from tests


def _accepted_values(values: list[str]) -> list[str]:
    return [
        "        data_tests:",
        "          - accepted_values:",
        "              arguments:",
        f"                values: [{', '.join(values)}]",
    ]
