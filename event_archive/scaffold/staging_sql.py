"""The SQL of a stream's staging models: a decoded table, and views of what is accepted, rejected and a duplicate.

They have the form of the ones that come with the project; dbt_project/README.md says why. What doesn't live here: their descriptions
(`staging_yml`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_archive.scaffold.staging_parts import ENVELOPE_ADDED, identity, payload_names, whole
from event_archive.scaffold.text import comment, jinja_string, sql_in_jinja

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from event_archive.scaffold.fields import Field
    from event_archive.scaffold.staging_parts import Staging
    from event_archive.schema.model import StreamSchema

_WIDTH = 110


def decoded_sql(staging: Staging) -> str:
    """The table in which each event is decoded once."""
    columns, schema = staging.columns, staging.schema
    lines = ["{{ config(materialized='incremental', meta={'level': 'event'}) }}", "", "{#-"]
    lines += [f"    What an event of {staging.stream} may say, inferred from {_looked_at(schema)}:", ""]
    width = max(len(field.name) for field in columns.fields)
    lines += [f"    {field.name:<{width}}  {comment(field.observed)}" for field in columns.fields]
    if columns.left_out:
        lines += ["", "    No columns:", ""]
        lines += [f"    {comment(text)}" for text in columns.left_out[:50]]
    lines += [
        "",
        "    Look it over: what is required that should not be? What has a better name, or an own minimum?",
        "-#}",
    ]
    arguments = "fields"
    if columns.event_types:
        lines += ["{% set event_types = ["]
        lines += [f"    {sql_in_jinja(name)}," for name in columns.event_types]
        lines += ["] %}"]
        arguments += ", event_types"
    lines += ["{% set fields = ["]
    for field in columns.fields:
        lines += _field_lines(field, columns.event_types)
    lines += ["] %}", ""]
    lines += [
        "with judged as (",
        f"    {{{{ judged_events('{staging.stream}', {arguments}) }}}}",
        "),",
        "",
        "decoded as materialized (",
        "    select",
        *_indented(ENVELOPE_ADDED, last=False),
        *_decoded_columns(staging),
        "        rejection_reason,",
        "        case when rejection_reason is not null then value end as rejected_value",
        "    from judged",
        ")",
        "",
        "{{ first_archived_wins('decoded') }}",
    ]
    return whole(lines)


def _decoded_columns(staging: Staging) -> Iterator[str]:
    names = payload_names(staging)
    if not staging.columns.has_event_id:
        yield "        -- the events have no id of their own: each archived event counts as one, and a redelivery can't be told"
        yield "        concat_ws('/', source_id, source_partition, source_offset) as event_id,"
        names = names[1:]
    yield from _indented(names, last=False)


def _field_lines(field: Field, types: tuple[str, ...]) -> Iterator[str]:
    parts = {"name": [jinja_string(field.name)]}
    if field.path != field.name:
        parts["path"] = [jinja_string(field.path)]
    parts["type"] = [f"'{field.type}'"]
    lists = {"required_by": field.required_by, "optional_for": field.optional_for}
    for key, value in lists.items():
        if value == "all":
            parts[key] = ["'all'"]
        elif value and len(value) == len(types):
            parts[key] = ["event_types"]
        elif value:
            parts[key] = [sql_in_jinja(name) for name in value]
    is_list = {key for key, value in lists.items() if value != "all" and len(value) not in (0, len(types))}
    whole = ", ".join(
        f"'{key}': [{', '.join(items)}]" if key in is_list else f"'{key}': {items[0]}"
        for key, items in parts.items()
    )
    if len(whole) < _WIDTH:
        yield f"    {{{whole}}},"
        return
    yield "    {"
    for key, items in parts.items():
        if key in is_list:
            yield f"        '{key}': ["
            yield from _packed(items, " " * 12)
            yield "        ],"
        else:
            yield f"        '{key}': {items[0]},"
    yield "    },"


def _packed(items: list[str], indent: str) -> Iterator[str]:
    """As many items on a line as fit."""
    line = indent
    for item in items:
        if line != indent and len(line) + len(item) > _WIDTH:
            yield line.rstrip()
            line = indent
        line += f"{item}, "
    yield line.rstrip()


def view_sql(staging: Staging, columns: Iterable[str], outcome: str) -> str:
    """A view of the events with one outcome."""
    names = list(columns)
    return whole(
        [
            "select",
            *[f"    {name}," for name in names[:-1]],
            f"    {names[-1]}",
            f"from {{{{ ref('{staging.model}_decoded') }}}}",
            f"where outcome = '{outcome}'",
        ]
    )


def rejected_sql(staging: Staging) -> str:
    """A view of what is rejected, with the reason."""
    return whole(
        [
            "select",
            *[f"    {name}," for name in ENVELOPE_ADDED[:-1]],
            "    rejection_reason as reason,",
            *[f"    {name}," for name in identity(staging)],
            "    rejected_value as value",
            f"from {{{{ ref('{staging.model}_decoded') }}}}",
            "where outcome = 'rejected'",
        ]
    )


def _looked_at(schema: StreamSchema) -> str:
    if schema.version < 0:
        return f"{schema.events:,} sample events"
    some = f"{schema.events:,} of " if schema.events < schema.of_events else ""
    return f"{some}{schema.of_events:,} events up to commit {schema.version}"


def _indented(names: Iterable[str], *, last: bool) -> list[str]:
    lines = [f"        {name}," for name in names]
    return [*lines[:-1], lines[-1].rstrip(",")] if last else lines
