"""Heads of the archive in Dagster's own records: each ingest leaves one, and the proof of the archive compares with the last ones.

Dagster's storage lies elsewhere than the archive, and so it is a witness when the archive's newest commits are cut off. What
doesn't live here: what a head is (`event_archive.heads`).
"""

import json

import dagster as dg

from event_archive.config import Config
from event_archive.heads.head import (
    StreamHead,
    contains_heads,
    decode_document,
    document_of,
    encode_document,
    read_head,
)

COMPARED_RUNS = 20
_HEAD = "head"


def head_metadata(config: Config, stream: str) -> dict[str, dg.MetadataValue]:
    """The head of a stream, as the metadata of a run: saved to a file it is what `event-archive verify --head` takes."""
    head = read_head(config.table(stream))
    document = json.loads(encode_document(document_of({stream: head})))
    return {
        "chain hash": dg.MetadataValue.text(head.chain_hash or "nothing is archived yet"),
        _HEAD: dg.MetadataValue.json(document),
    }


def heads_of_runs(instance: dg.DagsterInstance, key: dg.AssetKey, stream: str) -> list[StreamHead]:
    """The heads that the last ingests of a stream, whose asset has this key, have left; the newest first."""
    records = instance.fetch_materializations(key, limit=COMPARED_RUNS).records
    heads: list[StreamHead] = []
    for record in records:
        made = record.asset_materialization
        value = made.metadata.get(_HEAD) if made else None
        if value is None:
            continue  # of a run before heads were recorded
        try:
            heads.append(decode_document(json.dumps(value.value)).streams[stream])
        except (ValueError, KeyError):
            continue  # of another version of the software
    return list(dict.fromkeys(heads))


def faults_of_runs(instance: dg.DagsterInstance, key: dg.AssetKey, config: Config, stream: str) -> list[str]:
    """What is wrong with the archive of a stream in the light of the heads that its last ingests have left."""
    found = contains_heads(config.table(stream), heads_of_runs(instance, key, stream))
    return [f"{fault} (A run of the ingest has recorded it.)" for fault in found if fault is not None]
