"""The command `head`: streams in, their newest commits out, to be kept elsewhere.

What doesn't live here: heads (`event_archive.heads`), and where the configuration keeps them (`event_archive.heads.recorded`).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from event_archive.cli import render
from event_archive.cli.options import ConfigOption, JsonOption, Streams, chosen_streams
from event_archive.config import load_config


def head(
    streams: Streams = None,
    *,
    record: Annotated[
        bool,
        typer.Option("--record", help="Append the heads to the places under `heads` of the configuration."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the newest commit of each stream: its version, the hash of the whole log up to it, and counts.

    Keep it where the archive isn't: `verify --head FILE` proves later that the archive still contains it, which no archive
    can show by itself. With --record, exit code 1 if a place could not take it.
    """
    from event_archive.heads.head import document_of, encode_document, read_head
    from event_archive.heads.recorded import record_document

    loaded = load_config(config)
    heads = {name: read_head(loaded.table(name)) for name in chosen_streams(loaded, streams)}
    document = document_of(heads)
    if as_json:
        render.print_json(json.loads(encode_document(document)))
    else:
        table = render.new_table(
            "stream",
            "version",
            "chain hash",
            "table",
            "events",
            "bytes",
            "committed at",
            left=("stream", "chain hash", "table", "committed at"),
        )
        for name, item in heads.items():
            table.add_row(
                name,
                str(item.version) if item.commits else "-",
                item.chain_hash or "-",
                (item.table_id or "-")[:16],
                f"{item.events:,}",
                render.human_bytes(item.value_bytes),
                item.committed_at or "-",
            )
        render.print_table(table)
    failures = record_document(loaded, document) if record else []
    for text in failures:
        render.complain(text)
    if failures:
        raise typer.Exit(1)
