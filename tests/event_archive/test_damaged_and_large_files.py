"""Compressed files that are damaged or cut, very long lines, very large files, very many files."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

from event_archive.sources.files import lines

if TYPE_CHECKING:
    from tests.conftest import Project

LINES = [b'{"n": %d, "r": "%x"}' % (n, random.Random(n).getrandbits(64)) for n in range(5000)]
TEXT = b"\n".join(LINES) + b"\n"


def measured(project: Project, *arguments: str) -> tuple[float, Any]:
    """Runs the command line; its peak memory in MB, and the JSON that it printed."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024\n"
        "print(peak, done.returncode, file=sys.stderr)\n"
    )
    command = [
        sys.executable,
        "-m",
        "event_archive",
        *arguments,
        "--config",
        str(project.config_file),
        "--json",
    ]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    peak, status = done.stderr.split()[-2:]
    assert status == "0", done.stderr
    return float(peak), json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_cut_file_gives_its_whole_lines_and_a_problem(project: Project, kind: str) -> None:
    """The problem stays until the file is whole; then the rest is archived, and nothing twice."""
    packed = gzip.compress(TEXT) if kind == "gz" else zstandard.compress(TEXT)
    path = project.write(f"a.jsonl.{kind}", packed[: len(packed) * 2 // 3])
    first = project.ingest(settled=True)
    (problem,) = first.problems
    assert problem.source == str(path)
    assert "cut" in problem.reason
    (got,) = project.events().values() if first.events else ([],)
    assert got == LINES[: len(got)]
    assert kind == "zst" or len(got) > 1000, "zstd gives whole blocks of 128 KB only"
    again = project.ingest(settled=True)
    assert [p.source for p in again.problems] == [str(path)]
    assert again.commits == 0
    project.write(f"a.jsonl.{kind}", packed, age_seconds=60)
    assert project.ingest().problems == ()
    assert project.events() == {f"file:a.jsonl.{kind}": LINES}


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_damaged_file_gives_what_was_whole_and_a_problem(project: Project, kind: str) -> None:
    """Members before the damaged one are archived to the last line."""
    pack = gzip.compress if kind == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress
    whole, damaged = pack(TEXT), bytearray(pack(TEXT))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 20] = b"\xff" * 20
    path = project.write(f"a.jsonl.{kind}", whole + bytes(damaged))
    result = project.ingest(settled=True)
    assert [p.source for p in result.problems] == [str(path)]
    (got,) = project.events().values()
    assert got[: len(LINES)] == LINES
    accepted = project.run("sources", "accept", str(path))
    assert accepted.returncode == 0, accepted.stderr
    assert project.ingest().problems == ()
    assert project.events() == {f"file:a.jsonl.{kind}": got}


def test_a_gzip_file_whose_checksum_is_wrong_is_a_problem(project: Project) -> None:
    """Its structure is whole, its content can't be vouched for."""
    packed = bytearray(gzip.compress(TEXT))
    packed[-6] ^= 1
    path = project.write("a.jsonl.gz", bytes(packed))
    assert [p.source for p in project.ingest().problems] == [str(path)]


def test_several_members_and_padding_are_one_stream(project: Project) -> None:
    """As gzip has it: a line may go from one member into the next."""
    cut = len(TEXT) // 2
    project.write(
        "a.jsonl.gz", gzip.compress(TEXT[:cut]) + gzip.compress(b"") + gzip.compress(TEXT[cut:]) + b"\0" * 500
    )
    project.write("b.jsonl.zst", zstandard.compress(TEXT[:cut]) + zstandard.compress(TEXT[cut:]))
    assert project.ingest().problems == ()
    assert project.events() == {"file:a.jsonl.gz": LINES, "file:b.jsonl.zst": LINES}


def test_a_line_of_64_megabytes_is_archived(project: Project) -> None:
    """Among others."""
    huge = random.Random(1).randbytes(2**20).replace(b"\n", b"x") * 64
    project.write("a.jsonl", b"before\n" + huge + b"\nafter\n")
    assert project.ingest().problems == ()
    assert project.events() == {"file:a.jsonl": [b"before", huge, b"after"]}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("unfinished", [b"", b"\nlast\n"])
def test_a_line_over_the_limit_is_a_problem_not_a_crash(
    project: Project, ending: str, unfinished: bytes
) -> None:
    """What comes before it is archived; after the limit is raised, so is the rest."""
    project.configure("max_record_bytes: 5000")
    data = b"first\n" + b"x" * 5000 + b"\n" + b"y" * 5001 + unfinished
    name = f"a.jsonl{ending}"
    path = project.write(name, gzip.compress(data) if ending else data)
    project.write("b.jsonl", b"other\n")
    for _ in range(2):
        (problem,) = project.ingest().problems
        assert problem.source == str(path)
        assert "5000 bytes at byte 5007" in problem.reason
        assert "max_record_bytes" in problem.reason
    assert project.events() == {f"file:{name}": [b"first", b"x" * 5000], "file:b.jsonl": [b"other"]}
    project.configure("max_record_bytes: 5001")
    assert project.ingest().problems == ()
    assert project.events()[f"file:{name}"] == [b"first", b"x" * 5000, b"y" * 5001, *unfinished.split()]


@pytest.mark.slow
def test_a_large_file_is_archived_in_bounded_memory(project: Project) -> None:
    """Here 1.5 GB, in `make bench` 5 GB: the peak must not grow with the file."""
    generator = random.Random(3)
    block = b"".join(
        b'{"n": %d, "text": "%s"}\n' % (n, generator.randbytes(100).hex().encode()) for n in range(4000)
    )
    with (project.landing / "a.jsonl").open("wb") as file:
        while file.tell() < 1.5e9:
            file.write(block)
    peak_mb, _ = measured(project, "ingest", "--settled")
    assert peak_mb < 600


@pytest.mark.slow
def test_densely_compressed_input_does_not_fill_memory(project: Project) -> None:
    """Half a GB of the same line, which zstd packs into kilobytes and gzip into megabytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    zstd = zstandard.ZstdCompressor(level=3).compressobj()
    block = b"the same line again and again\n" * 100_000
    with (
        (project.landing / "a.jsonl.gz").open("wb") as gz,
        (project.landing / "b.jsonl.zst").open("wb") as zst,
    ):
        for _ in range(150):
            gz.write(deflate.compress(block))
            zst.write(zstd.compress(block))
        gz.write(deflate.flush())
        zst.write(zstd.flush())
    peak_mb, report = measured(project, "ingest", "--settled")
    assert report["streams"][0]["events"] == 2 * 150 * 100_000
    assert peak_mb < 600


@pytest.mark.slow
def test_100_000_archived_files_and_nothing_new_is_a_short_run(project: Project) -> None:
    """No file is opened, no commit is made; `make bench` shows the time."""
    for folder in range(100):
        (project.landing / str(folder)).mkdir()
        for file in range(1000):
            (project.landing / str(folder) / f"{file}.jsonl").write_bytes(
                b'{"folder":%d,"file":%d}\n' % (folder, file)
            )
    first = project.ingest(settled=True)
    assert (first.events, first.problems) == (100_000, ())
    peak_mb, report = measured(project, "ingest")
    (stream,) = report["streams"]
    assert (stream["events"], stream["commits"], stream["problems"]) == (0, 0, [])
    assert peak_mb < 300


def test_split_and_join_are_inverse() -> None:
    """For any mix of blank lines, line ends and parts."""
    generator = random.Random(11)
    for _ in range(2000):
        parts = [
            b"".join(
                bytes(generator.choices(b"a\n\r", k=generator.randrange(6))) + b"\n"
                for _ in range(generator.randrange(4))
            )
            for _ in range(generator.randrange(1, 5))
        ]
        ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
        split = lines.split(b"".join(parts), np.array(ends))
        assert split.values.to_pylist() == [line for part in parts for line in part.split(b"\n") if line]
        assert split.counts.tolist() == [sum(map(bool, part.split(b"\n"))) for part in parts]
        start = 0
        for index, part in enumerate(parts):
            count = int(split.counts[index])
            blank = split.blank_before[split.blank_part == index] - start
            assert lines.join(split.values.slice(start, count), blank) == part
            start += count
