"""Payloads that are made to break whoever looks at them: the answer comes, is bounded, and says what was left out."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from event_archive.schema import wide
from event_archive.schema.scan import Asked
from event_archive.schema.stream import stream_schema

if TYPE_CHECKING:
    from event_archive.schema.model import StreamSchema
    from tests.conftest import Project


def schema_of(project: Project, lines: list[bytes], **asked: Any) -> StreamSchema:
    """The schema of a stream of these lines."""
    project.write("a.jsonl", b"".join(line + b"\n" for line in lines))
    project.ingest(settled=True)
    return stream_schema(project.config(), "events", Asked(**asked))


def test_ids_as_keys_are_one_path(project: Project) -> None:
    """Prices by product are `prices.*`, counted once per event; fields beside them stay."""
    rng = random.Random(1)
    lines = [
        json.dumps(
            {"id": n, "prices": {f"P{rng.randrange(10**6)}": rng.random() for _ in range(5)}, "s": {"x": 1}}
        ).encode()
        for n in range(2000)
    ]
    found = schema_of(project, lines)
    assert [facts.path for facts in found.paths] == ["$", "id", "prices", "prices.*", "s", "s.x"]
    prices = found.path("prices.*")
    assert prices is not None
    assert (prices.events, dict(prices.kinds)) == (2000, {"number": 2000})
    assert found.notes == (
        "prices.* stands for the keys of prices that are too many, or too rare, to be names of fields",
    )


def test_ids_as_keys_of_the_payload_itself_leave_its_fields_alone(project: Project) -> None:
    """Fields that events share keep their paths beside thousands of keys that are data."""
    lines = [json.dumps({f"user-{n}": {"seen": 1}, "kind": "k"}).encode() for n in range(3000)]
    found = schema_of(project, lines)
    assert [facts.path for facts in found.paths] == ["$", "*", "*.seen", "kind"]


def test_a_wide_record_keeps_all_of_its_fields(project: Project) -> None:
    """Three hundred fields that are always there are no data."""
    found = schema_of(project, [json.dumps({f"f{n}": n for n in range(300)}).encode()] * 100)
    assert len(found.paths) == 301
    assert found.notes == ()


def test_keys_that_come_in_later_files_start_everything_anew(project: Project) -> None:
    """What looked like a record in the first batch is data in the second: all of it is counted so."""
    for number in range(3):
        project.write(
            f"{number}.jsonl",
            b"".join(
                json.dumps({"m": {f"k{number}_{n}": 1, f"l{number}_{n}": 2}}).encode() + b"\n"
                for n in range(20)
            ),
        )
        project.ingest(settled=True)
    found = stream_schema(project.config(), "events", Asked())
    assert [(facts.path, facts.events) for facts in found.paths] == [("$", 60), ("m", 60), ("m.*", 60)]


def test_paths_are_bounded_even_if_no_object_has_many_keys(project: Project) -> None:
    """Objects of twenty keys in objects of twenty keys in objects of twenty keys would be 8,000 paths."""
    document = {
        f"a{i}": {f"b{i}_{j}": {f"c{i}_{j}_{k}": 1 for k in range(20)} for j in range(20)} for i in range(20)
    }
    found = schema_of(project, [json.dumps(document).encode()] * 3)
    assert len(found.paths) <= wide.MOST_PATHS
    assert found.path("a3") is not None
    assert found.notes


def test_deep_wide_and_odd_payloads_are_answered_within_bounded_memory(project: Project) -> None:
    """100,000 levels, 100,000 keys, a key of a megabyte, keys of any signs: in a process that may have 3 GB, in seconds."""
    lines = [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"{" + b",".join(b'"k%d":{"x%d":%d}' % (n, n, n) for n in range(100_000)) + b"}",
        b'{"' + b"x" * 2**20 + b'":1}',
        b'{"a":1,"a":"x","e.f":{"g\\"h":1,"":2,"\\u0000":3,"*":4,"$":5,"[]":6},"\xc3\xbc":1}',
        b"[" + b"1," * 1_000_000 + b"1]",
    ]
    lines += [json.dumps({f"id{n}": 1}).encode() for n in range(3000)]
    project.write("a.jsonl", b"".join(line + b"\n" for line in lines))
    project.ingest(settled=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "event_archive",
            "schema",
            "events",
            "--json",
            "--config",
            str(project.config_file),
        ],
        capture_output=True,
        check=False,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["json_events"] == 3006
    assert len(found["paths"]) <= wide.MOST_PATHS
    assert any("deeper than 20 levels" in note for note in found["notes"])
    assert any(note.startswith("* stands for") for note in found["notes"])
