"""The tables that the engines read: the demo's archive and records as a topic has them, in every state that an archive can be in.

Each state holds the same events. To add a state: a function in `STATES`. What doesn't live here: reading (`engines`).
"""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from event_archive.appending import Appender
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.archive.history import iter_commits, log_versions
from event_archive.compaction.days import compact_stream
from event_archive.config import Config, load_config
from event_archive.ingest import ingest_stream
from event_archive.sealing import seal
from event_archive.sources.kafka import positions

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
STREAMS = ("bookings", "cart_events", "records")
WAVES = 3
_EVENTS = 3_000
_RECORDS = 100
"""Of each partition and wave."""
_PARTITIONS = 3
_SOURCE_ID = "kafka://cluster/records"
_LAST_MS = 253_402_300_799_999
_SPECIAL = [
    # Key, value, headers, milliseconds since 1970: what engines are known to mix up.
    (None, None, None, None),
    (b"", b"", [], 0),
    (b"\x00\xff", b"\xff\xfe\x00not text", [("a", None), ("a", b""), ("", b"\x00")], -1),
    ("ü".encode(), b'{"n": 1}', [("ü", "ü".encode())], _LAST_MS),
    (b"k", b"long " * 2_000, None, -62_135_596_800_000),
    (b"k", b"before the Gregorian calendar", None, -12_219_292_800_001),
    (b"k", b"outside of every calendar", None, 2**62),
]


def make_states(folder: Path) -> None:
    """Makes an archive of each state, in a folder of its name below `folder`."""
    for wave in range(1, WAVES + 1):
        generate = [sys.executable, "-m", "demo.generate", "--events", str(_EVENTS), "--seed", "7"]
        places = ["--landing", str(folder / f"wave-{wave}"), "--truth", str(folder / f"truth-{wave}")]
        waves = ["--waves", str(WAVES), "--wave", str(wave)]
        subprocess.run([*generate, *places, *waves], cwd=ROOT, check=True, capture_output=True)
    for name, make in STATES.items():
        place = folder / name
        place.mkdir()
        streams = "".join(
            f"  {stream}:\n    commit_bytes: 100000\n    source: {{type: files, path: landing/{stream}}}\n"
            for stream in STREAMS[:2]
        )
        (place / "event_archive.yaml").write_text(
            f"archive: archive\nwarehouse: warehouse\nstreams:\n{streams}"
            "  records:\n    source: {type: kafka, brokers: 'localhost:1', topic: records}\n"
        )
        make(load_config(place / "event_archive.yaml"), folder)


def _ingest(config: Config, folder: Path, *waves: int) -> None:
    """Archives what these waves bring to each stream."""
    for wave in waves:
        landing = config.path.parent / "landing"
        ignored = shutil.ignore_patterns(".*")
        shutil.copytree(folder / f"wave-{wave}", landing, dirs_exist_ok=True, ignore=ignored)
        for stream in STREAMS[:2]:
            result = ingest_stream(config, stream, settled=True)
            assert result.events > 0
        _append_records(config, wave)


def _append_records(config: Config, wave: int) -> None:
    """What an ingest of a topic writes: keys, headers and timestamps, and a commit of several partitions."""
    appender = Appender("records", config.stream("records"), config.table("records"))
    appender.open(lambda _: None)
    first = (wave - 1) * _RECORDS
    claims = []
    for partition in range(_PARTITIONS):
        offsets = range(first, first + _RECORDS)
        given = [_SPECIAL[(offset + partition) % len(_SPECIAL)] for offset in offsets]
        columns = {
            "source_id": pa.array([_SOURCE_ID] * _RECORDS).dictionary_encode(),
            "source_partition": [partition] * _RECORDS,
            "source_offset": list(offsets),
            "event_time": pa.array([_microseconds(item[3]) for item in given], pa.int64()).cast(
                pa.timestamp("us", "UTC")
            ),
            "timestamp_ms": [item[3] for item in given],
            "timestamp_type": pa.array(
                [None if item[3] is None else "create_time" for item in given], pa.string()
            ).dictionary_encode(),
            "key": [item[0] for item in given],
            "value": [item[1] for item in given],
            "headers": [
                None if item[2] is None else [{"key": name, "value": value} for name, value in item[2]]
                for item in given
            ],
        }
        arrays = [
            values if isinstance(values, pa.Array) else pa.array(values, SOURCE_SCHEMA.field(name).type)
            for name, values in columns.items()
        ]
        appender.write_rows(pa.table(arrays, schema=SOURCE_SCHEMA), 1)
        runs = np.array([[first, _RECORDS]], np.int64)
        claims.append(positions.PartitionClaim(_SOURCE_ID, "id", partition, first, first + _RECORDS, runs))
    appender.commit(positions.encode_claims(claims), application="event-archive:kafka:records")


def _microseconds(milliseconds: int | None) -> int | None:
    return milliseconds * 1000 if milliseconds is not None and milliseconds <= _LAST_MS else None


def _seal(config: Config) -> None:
    for stream in STREAMS:
        assert seal(config.table(stream), at_least=1) is not None


def _compact(config: Config) -> None:
    for stream in STREAMS:
        result = compact_stream(config, stream, until=dt.datetime.now(dt.UTC).date())
        assert result.compacted
        assert not result.problems


def _plain(config: Config, folder: Path) -> None:
    """As ingest leaves it."""
    _ingest(config, folder, 1, 2, 3)


def _sealed(config: Config, folder: Path) -> None:
    """Old entries have left the log, a checkpoint stands for them, and there are entries after it."""
    _ingest(config, folder, 1)
    _seal(config)
    _ingest(config, folder, 2)
    _seal(config)
    _ingest(config, folder, 3)
    for stream in STREAMS:
        assert log_versions(config.table(stream))[0] > 1


def _compacted(config: Config, folder: Path) -> None:
    """Few files have taken the place of many, which are still there: nobody may count them twice."""
    _ingest(config, folder, 1, 2, 3)
    _compact(config)


def _compacted_and_sealed(config: Config, folder: Path) -> None:
    """The log begins with a checkpoint that has tombstones, and the files that were replaced are gone."""
    _ingest(config, folder, 1, 2)
    _compact(config)
    _seal(config)
    _seal(config)
    _ingest(config, folder, 3)
    for stream in STREAMS:
        table = config.table(stream)
        assert log_versions(table)[0] > 1
        for commit in iter_commits(table):
            for path in commit.removed:
                table.delete(path)


STATES: dict[str, Callable[[Config, Path], None]] = {
    "plain": _plain,
    "sealed": _sealed,
    "compacted": _compacted,
    "compacted_and_sealed": _compacted_and_sealed,
}
