"""Events of files as JSON lines: payloads as they are, or envelopes from which everything can be had back."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from event_archive.appending import Appender
from event_archive.archive.data_file import SOURCE_SCHEMA
from event_archive.archive.snapshot import read_snapshot
from event_archive.envelope import EVENT_SCHEMA
from event_archive.sources.kafka.positions import PartitionClaim, encode_claims, runs_of

if TYPE_CHECKING:
    from tests.conftest import Project

SOURCE = "kafka://cluster/things"


def archive_rows(
    project: Project, partitions: list[int], rows: list[dict[str, Any]], source_id: str = SOURCE
) -> None:
    """Configures a topic and commits rows as its events; `rows` are sorted by partition."""
    project.config_file.write_text(
        "archive: archive\nwarehouse: warehouse\nstreams:\n  events:\n"
        "    source: {type: kafka, brokers: '127.0.0.1:1', topic: things}\n"
    )
    appender = Appender("events", project.config().stream("events"), project.store)
    starts: dict[int, int] = {}
    appender.open(lambda _commit: None)
    full, claims = [], []
    for partition in sorted(set(partitions)):
        mine = [row for p, row in zip(partitions, rows, strict=True) if p == partition]
        first = starts.get(partition, 0)
        full += [
            {
                **dict.fromkeys(SOURCE_SCHEMA.names),
                "source_id": source_id,
                "source_partition": partition,
                "source_offset": first + i,
                **row,
            }
            for i, row in enumerate(mine)
        ]
        runs = runs_of(np.arange(first, first + len(mine)))
        claims.append(PartitionClaim(source_id, "id", partition, first, first + len(mine), runs))
    appender.write_rows(pa.Table.from_pylist(full, schema=SOURCE_SCHEMA), 0)
    appender.commit(encode_claims(claims), application="test")


def decoded(line: str) -> dict[str, Any]:
    """A row of the archive, out of its envelope."""
    event = json.loads(line)

    def binary(item: dict[str, Any], name: str) -> bytes | None:
        if f"{name}_base64" in item:
            return base64.b64decode(item[f"{name}_base64"], validate=True)
        text = item[name]
        return None if text is None else text.encode()

    row = {name: event.get(name) for name in EVENT_SCHEMA.names}
    row["key"], row["value"] = binary(event, "key"), binary(event, "value")
    row["headers"] = event["headers"] and [
        {"key": header["key"], "value": binary(header, "value")} for header in event["headers"]
    ]
    for name in ("event_time", "ingested_at"):
        row[name] = event[name] and dt.datetime.fromisoformat(event[name])
    row["ingest_date"] = dt.date.fromisoformat(event["ingest_date"])
    return row


def archived_rows(project: Project) -> list[dict[str, Any]]:
    """The rows of all data files, in order."""
    rows = []
    for path in read_snapshot(project.store).file_paths():
        with Path(path).open("rb") as file:
            rows += pq.ParquetFile(file).read().to_pylist()
    return rows


ODD: list[dict[str, Any]] = [
    {"value": b'{"a": "\xc3\xa9"}', "key": b"k"},
    {"value": None, "key": b"tombstone"},
    {"value": b"", "key": b""},
    {"value": b"line\nends\r\nand \x00\x1f\x7f", "key": None},
    {"value": b"\xff\xfe no text", "key": b"\xed\xa0\x80"},  # half a surrogate pair is no UTF-8
    {"value": '\u2028\u2029 \U0001f600 \\ "'.encode(), "headers": []},
    {
        "value": b"h",
        "headers": [
            {"key": "a", "value": b"1"},
            {"key": "a", "value": None},
            {"key": "\u00e9", "value": b"\xff"},
            {"key": "", "value": b""},
        ],
    },
    {
        "value": b"t",
        "timestamp_ms": 1_767_225_600_123,
        "timestamp_type": "create_time",
        "event_time": dt.datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=dt.UTC),
    },
    {
        "value": b"early",
        "timestamp_ms": -62_135_596_800_000,
        "timestamp_type": "log_append_time",
        "event_time": dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    },
    {"value": b"absurd", "timestamp_ms": -(2**63), "timestamp_type": "create_time"},
]


def test_everything_can_be_had_back_from_envelopes(project: Project) -> None:
    """Each column, to the bit, and each event on one line."""
    archive_rows(project, [0] * len(ODD), ODD)
    done = project.run("replay", "events", "--to", "-", "--envelope")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.removesuffix("\n").split("\n")
    assert [decoded(line) for line in lines] == archived_rows(project)


@pytest.mark.parametrize(
    ("value", "says"),
    [(None, "is null (a tombstone)"), (b"a\nb", "holds a line end"), (b"\n", "holds a line end")],
)
def test_a_payload_that_is_no_line_is_refused_by_name(
    value: bytes | None, says: str, project: Project
) -> None:
    """It would be two lines, or none; the remedy is there, and a folder gets no file."""
    fine = 15_000  # more than what is written at a time
    archive_rows(project, [0] * fine + [3, 3], [{"value": b"fine"}] * (fine + 1) + [{"value": value}])
    for target in ("-", "out"):
        done = project.run("replay", "events", "--to", target)
        assert done.returncode == 2
        assert f"partition 3: the payload at offset 1 {says}" in done.stderr
        assert "--envelope" in done.stderr
    assert list((project.folder / "out").iterdir()) == []


def test_a_folder_gets_the_payloads_of_each_partition(project: Project) -> None:
    """As they are, also empty ones and such that are no text; nothing is replaced."""
    values = [b'{"n": 1}', b"", b"\xff\r", b"x" * 100_000]
    archive_rows(project, [0, 0, 0, 7], [{"value": value} for value in values])
    done = project.run("replay", "events", "--to", "out", "--json")
    assert done.returncode == 0, done.stderr
    out = project.folder / "out"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "things-0.jsonl": b'{"n": 1}\n\n\xff\r\n',
        "things-7.jsonl": b"x" * 100_000 + b"\n",
    }
    written = json.loads(done.stdout)
    assert (written["events"], written["files"][0]["events"]) == (4, 3)
    assert written["files"][1]["sha256"] == hashlib.sha256((out / "things-7.jsonl").read_bytes()).hexdigest()
    assert "not an empty folder" in project.run("replay", "events", "--to", "out").stderr


def test_generations_have_files_of_their_own(project: Project) -> None:
    """The newest one alone unless asked for."""
    archive_rows(project, [0], [{"value": b"old"}])
    archive_rows(project, [0], [{"value": b"new"}], SOURCE + "#2")
    done = project.run("replay", "events", "--to", "newest")
    assert "1 events of older generations were left out" in done.stderr
    assert project.run("replay", "events", "--to", "all", "--all-generations").returncode == 0
    assert {path.name: path.read_bytes() for path in (project.folder / "newest").iterdir()} == {
        "things-0.generation-2.jsonl": b"new\n"
    }
    assert {path.name: path.read_bytes() for path in (project.folder / "all").iterdir()} == {
        "things-0.jsonl": b"old\n",
        "things-0.generation-2.jsonl": b"new\n",
    }


def test_files_come_out_as_lines_on_stdout(project: Project) -> None:
    """In the order in which they were archived; the newest generation of each."""
    project.write("a.jsonl", b"1\n\n2\n")
    project.ingest()
    project.write("b.jsonl", b"3")
    project.ingest()
    assert project.run("replay", "events", "--to", "-").stdout == "1\n2\n3\n"
    path = project.write("a.jsonl", b"changed\n", age_seconds=100)
    assert project.run("sources", "accept", str(path)).returncode == 0
    newest = project.run("replay", "events", "--to", "-")
    assert newest.stdout == "3\nchanged\n"
    assert "2 events of older generations were left out" in newest.stderr
    assert project.run("replay", "events", "--to", "-", "--all-generations").stdout == "1\n2\n3\nchanged\n"


def test_files_with_envelopes_keep_their_names(project: Project) -> None:
    """A file of envelopes for each file."""
    project.write("deep/a.jsonl.gz", gzip.compress(b"1\n2\n"))
    project.ingest()
    assert project.run("replay", "events", "--to", "out", "--envelope").returncode == 0
    lines = (project.folder / "out" / "deep" / "a.jsonl").read_text().splitlines()
    assert [decoded(line) for line in lines] == archived_rows(project)


def test_a_damaged_data_file_is_not_read(project: Project) -> None:
    """Nothing of it comes out, and it is named."""
    project.write("a.jsonl", b"one\ntwo\n")
    project.ingest()
    (path,) = project.table.glob("*/*.parquet")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"one", b"won") if b"one" in content else content[:-1] + b"x")
    done = project.run("replay", "events", "--to", "-")
    assert (done.returncode, done.stdout, path.name in done.stderr) == (1, "", True)


def test_a_reader_that_goes_away_is_one_sentence(project: Project) -> None:
    """As `head` does."""
    project.write("a.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(300_000)))
    project.ingest()
    command = f"{sys.executable} -m event_archive replay events --to - | head -n 2"
    environment = {**os.environ, "EVENT_ARCHIVE_CONFIG": str(project.config_file)}
    done = subprocess.run(  # noqa: S602 - the shell's pipe is what is tested
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=project.folder,
    )
    assert done.stdout == '{"n": 0}\n{"n": 1}\n'
    assert len(done.stderr.splitlines()) <= 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--to", "out", "--check"], "--check is for a replay to a topic"),
        (["--to", "-", "--map-partitions", "hash"], "--map-partitions is for a replay to a topic"),
        (["--to", "kafka://127.0.0.1:1/t", "--envelope"], "--envelope is for a replay to JSON lines"),
        (["--to", "-", "--json"], "leave one of them out"),
        (["--to", "out", "--rate", "5"], "Files come back whole"),
        (["--to", "-", "--from", "yesterday"], "2026-01-31T00:00:00Z"),
        (["--to", "-", "--from", "2026-01-31T00:00:00"], "with its zone"),
        (["--to", "-", "--until", "2026-01-31T00:00:00Z"], "carry no time"),
        (["--to", "-", "--until", "0:5"], "no partitions to name"),
        (["--to", "-", "--until", "0:5,0:6"], "names a partition twice"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: list[str], says: str, project: Project) -> None:
    """Rather than ignored."""
    project.write("a.jsonl", b"1\n")
    project.ingest()
    done = project.run("replay", "events", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
