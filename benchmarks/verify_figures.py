"""`verify` beside `sha256sum` over the same files: more than a gigabyte of archived events of about 200 bytes.

Both use as many threads as there are processors, both read from the page cache, in turn.
"""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, event_archive, median, run, write_config

if TYPE_CHECKING:
    from pathlib import Path

FILES = 20
BLOCKS_A_FILE = 13
LINES_A_BLOCK = 100_000
RUNS = 5
SMALL_FILES = 2_000


def beside_sha256sum(folder: Path) -> None:
    """26M events, in commits as `ingest` makes them; then 2,000 small commits, where opening files is what costs."""
    write_config(folder, "bench")
    events = _write(folder / "landing" / "bench")
    event_archive("ingest", "--settled", cwd=folder)
    stored = sum(path.stat().st_size for path in folder.glob("archive/bench/*/*.parquet"))
    print(
        f"{events:,} events, {stored / 1e9:.2f} GB archived in {_count(folder, 'bench')} files, {os.cpu_count()} threads:"
    )
    _compare(folder, "bench", stored)
    for options in (["--deep"], ["--quick"], ["--sample", "5%", "--seed", "1"]):
        figure = median([event_archive("verify", *options, cwd=folder) for _ in range(3)])
        print(f"  verify {' '.join(options):<22} {_told(figure, stored)}")
    small = folder / "small"
    write_config(small, "bench")
    _write_small(small / "landing" / "bench")
    _ingest_one_by_one(small)
    stored = sum(path.stat().st_size for path in small.glob("archive/bench/*/*.parquet"))
    print(f"{_count(small, 'bench'):,} files of {stored / _count(small, 'bench') / 1e3:.0f} kB:")
    _compare(small, "bench", stored)


def _compare(folder: Path, stream: str, stored: int) -> None:
    ours: list[Figure] = []
    hashed: list[Figure] = []
    threads = os.cpu_count() or 1
    command = f"find archive/{stream} -name '*.parquet' -print0 | xargs -0 -P{threads} -n{_at_once(folder, stream)} sha256sum"
    for _ in range(RUNS):
        ours.append(event_archive("verify", cwd=folder))
        hashed.append(run("sh", "-c", command, cwd=folder))
    print(f"  {'sha256sum':<29} {_speed(median(hashed), stored)}")
    share = median(hashed).seconds / median(ours).seconds
    print(
        f"  {'verify':<29} {_told(median(ours), stored)}   {share:.2f} of the speed of sha256sum (goal: 0.70)"
    )


def _told(figure: Figure, stored: int) -> str:
    return f"{_speed(figure, stored)}  {figure.peak_mb:5.0f} MB peak"


def _speed(figure: Figure, stored: int) -> str:
    return f"{figure.seconds:6.2f} s  {stored / 1e6 / figure.seconds:6.0f} MB/s"


def _count(folder: Path, stream: str) -> int:
    return sum(1 for _ in folder.glob(f"archive/{stream}/*/*.parquet"))


def _at_once(folder: Path, stream: str) -> int:
    """Files for each call of `sha256sum`: few enough that all threads have work to the end."""
    return max(1, _count(folder, stream) // (8 * (os.cpu_count() or 1)))


def _write(landing: Path) -> int:
    """Seeded lines of about 200 bytes, with as much chance in them as ids have."""
    generator = random.Random(1)  # noqa: S311 - seeded on purpose
    block = "".join(_line(generator, number) for number in range(LINES_A_BLOCK)).encode()
    for file in range(FILES):
        with (landing / f"{file}.jsonl").open("wb") as lines:
            for number in range(BLOCKS_A_FILE):
                lines.write(block.replace(b'"n":', b'"n":%d%d' % (file, number)))
    return FILES * BLOCKS_A_FILE * LINES_A_BLOCK


def _line(generator: random.Random, number: int) -> str:
    event = {
        "event_id": f"{generator.getrandbits(128):032x}",
        "at": f"2013-01-{number % 28 + 1:02d}T{number % 24:02d}:{number % 60:02d}:00.{number % 10**6:06d}Z",
        "n": number,
        "passenger": f"p-{generator.getrandbits(64):016x}",
        "flight": f"UA{generator.randrange(3000)}",
        "token": f"{generator.getrandbits(160):040x}",
    }
    return json.dumps(event, separators=(",", ":")) + "\n"


def _write_small(landing: Path) -> None:
    generator = random.Random(2)  # noqa: S311 - seeded on purpose
    for file in range(SMALL_FILES):
        (landing / f"{file:05d}.jsonl").write_text("".join(_line(generator, n) for n in range(100)))


def _ingest_one_by_one(folder: Path) -> None:
    """A commit for each file."""
    path = folder / "event_archive.yaml"
    path.write_text(path.read_text() + "    commit_bytes: 10000\n")
    event_archive("ingest", "--settled", cwd=folder)
