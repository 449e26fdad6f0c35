"""Replay gives back files whose bytes hash to what was archived."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from tests.conftest import Project


def test_files_come_back_byte_for_byte(project: Project) -> None:
    """Blank lines, missing line ends, carriage returns, growth, commits in the middle of a file."""
    project.configure(stream="commit_bytes: 5000")
    generator = random.Random(2)
    originals = {}
    for number in range(40):
        lines = [
            bytes(generator.choices(b"ab\r\xff\0", k=generator.choice([0, 0, 1, 5, 300]))) for _ in range(60)
        ]
        originals[f"{number % 4}/{number}.jsonl"] = b"\n".join(lines) + generator.choice(
            [b"", b"\n", b"\n\n\n", b"\nx"]
        )
    for name, data in originals.items():
        project.write(name, data[: data.rfind(b"\n", 0, len(data) // 2) + 1])
    project.ingest()
    for name, data in originals.items():
        project.write(name, data, age_seconds=100)
    assert project.ingest().problems == ()
    done = project.run("replay", "events", "--to", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert all(file["is_identical"] for file in json.loads(done.stdout)["files"])
    for name, data in originals.items():
        assert (project.folder / "out" / name).read_bytes() == data, name


def test_compressed_files_come_back_decompressed_under_names_of_their_own(project: Project) -> None:
    """Also when a plain file has that name already, and for later generations."""
    project.write("a.jsonl", b"plain\n")
    project.write("a.jsonl.gz", gzip.compress(b"gz\n"))
    project.write("a.jsonl.zst", zstandard.compress(b"zst\n"))
    project.ingest()
    path = project.write("a.jsonl", b"changed\n", age_seconds=100)
    assert project.run("sources", "accept", str(path)).returncode == 0
    assert project.run("replay", "events", "--to", "out").returncode == 0
    assert {path.name: path.read_bytes() for path in (project.folder / "out").iterdir()} == {
        "a.jsonl": b"plain\n",
        "a.2.jsonl": b"gz\n",
        "a.3.jsonl": b"zst\n",
        "a.generation-2.jsonl": b"changed\n",
    }


def test_replay_never_replaces_a_file(project: Project) -> None:
    """The folder must be empty."""
    project.write("a.jsonl", b"one\n")
    project.ingest()
    (project.folder / "out").mkdir()
    (project.folder / "out" / "mine.txt").write_text("mine")
    refused = project.run("replay", "events", "--to", "out")
    assert (refused.returncode, "not an empty folder" in refused.stderr) == (2, True)


def test_a_replayed_file_that_differs_from_what_was_recorded_is_told(project: Project) -> None:
    """The hash that is compared is the one that the commit recorded, not one made up at replay."""
    project.write("a.jsonl", b"one\ntwo\n")
    project.ingest()
    done = json.loads(project.run("replay", "events", "--to", "out", "--json").stdout)
    assert done["files"][0]["sha256"] == hashlib.sha256(b"one\ntwo\n").hexdigest()
