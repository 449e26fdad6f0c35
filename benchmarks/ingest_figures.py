"""Ingest beside a bare pyarrow loop, a file of 5 GB, and 100,000 files of which nothing is new."""

from __future__ import annotations

import random
import shutil
import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import Figure, event_archive, median, run, write_config

if TYPE_CHECKING:
    from pathlib import Path

LINES = 2_000_000
RUNS = 3
LARGE_BYTES = 5 * 10**9
MANY_FILES = 100_000

BARE_LOOP = """
import sys, pyarrow as pa, pyarrow.parquet as pq
schema = pa.schema([("value", pa.binary())])
with pq.ParquetWriter(sys.argv[2], schema, compression="zstd", use_dictionary=False) as out, open(sys.argv[1], "rb") as lines:
    while batch := lines.readlines(2**23):
        out.write_table(pa.table({"value": pa.array([line[:-1] for line in batch], pa.binary())}, schema=schema))
"""
"""What one writes in five minutes: no envelope, no hash, no commit, no fsync."""

BARE_COLUMNS = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
schema = pa.schema([("value", pa.binary())])
with pq.ParquetWriter(sys.argv[2], schema, compression="zstd", use_dictionary=False) as out, open(sys.argv[1], "rb") as file:
    rest = b""
    while chunk := file.read(2**23):
        end = chunk.rfind(b"\\n") + 1
        block, rest = rest + chunk[:end], chunk[end:]
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
        offsets = np.concatenate([[0], ends - np.arange(len(ends))]).astype(np.int32)
        data = pa.py_buffer(block.replace(b"\\n", b""))
        values = pa.Array.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(offsets), data])
        out.write_table(pa.table({"value": values}, schema=schema))
"""
"""The same without an object per line, which is as fast as pyarrow goes in one thread."""


def booking_line(generator: random.Random, number: int) -> str:
    """A line as the demo's booking service writes it."""
    return (
        f'{{"event_id":"{generator.getrandbits(128):032x}","event_type":"booking_confirmed","schema_version":2,'
        f'"occurred_at":"2013-01-{number % 28 + 1:02d}T{number % 24:02d}:{number % 60:02d}:00.{number % 10**6:06d}-05:00",'
        f'"sequence":{number},"booking_id":"b-{number:010d}","flight_id":"UA{generator.randrange(3000)}-EWR-2013-01-01",'
        f'"passenger_id":"p-{generator.randrange(10**7):08d}","seat":"{generator.randrange(1, 40)}A",'
        f'"fare":{{"amount_cents":{generator.randrange(5000, 90000)},"currency":"USD"}}}}\n'
    )


def write_lines(path: Path, count: int) -> None:
    """Writes `count` seeded lines."""
    generator = random.Random(1)  # noqa: S311 - seeded on purpose
    with path.open("w") as file:
        for number in range(count):
            file.write(booking_line(generator, number))


def beside_the_bare_loop(folder: Path) -> None:
    """Ingest of 2M lines, and two bare loops over the same file, in turn."""
    write_config(folder, "bench")
    path = folder / "landing" / "bench" / "a.jsonl"
    write_lines(path, LINES)
    size_mb = path.stat().st_size / 1e6
    print(f"Ingest of {LINES:,} lines ({size_mb:.0f} MB), median of {RUNS} whole processes:")
    ours: list[Figure] = []
    loop: list[Figure] = []
    columns: list[Figure] = []
    for _ in range(RUNS):
        shutil.rmtree(folder / "archive", ignore_errors=True)
        ours.append(event_archive("ingest", "--settled", cwd=folder))
        for figures, code in ((loop, BARE_LOOP), (columns, BARE_COLUMNS)):
            figures.append(run(sys.executable, "-c", code, str(path), str(folder / "bare.parquet")))
    middle = median(ours)
    rows = [
        ("event-archive ingest", middle),
        ("bare loop", median(loop)),
        ("bare loop in columns", median(columns)),
    ]
    for name, figure in rows:
        print(
            f"  {name:<22} {figure.seconds:6.2f} s  {size_mb / figure.seconds:6.0f} MB/s  {figure.peak_mb:5.0f} MB peak"
            f"   ours has {figure.seconds / middle.seconds:.2f} of its speed"
        )
    stored = sum(file.stat().st_size for file in (folder / "archive").rglob("*.parquet"))
    print(f"  stored in {stored / 1e6:.0f} MB, {stored / 1e6 / size_mb:.2f} of the input")
    read = event_archive("verify", cwd=folder)
    hashed = run("sh", "-c", f"find '{folder / 'archive'}' -name '*.parquet' -print0 | xargs -0 sha256sum")
    print(f"  verify: {read.seconds:.2f} s; sha256sum over the same files: {hashed.seconds:.2f} s")


def one_large_file(folder: Path) -> None:
    """Peak memory for a file of 5 GB."""
    write_config(folder, "large")
    source = folder / "block"
    write_lines(source, 200_000)
    block = source.read_bytes()
    with (folder / "landing" / "large" / "a.jsonl").open("wb") as file:
        while file.tell() < LARGE_BYTES:
            file.write(block)
    figure = event_archive("ingest", "--settled", cwd=folder)
    print(
        f"One file of {LARGE_BYTES / 1e9:.0f} GB: {figure.seconds:.1f} s, {figure.peak_mb:.0f} MB peak (goal: < 600)"
    )


def many_files(folder: Path) -> None:
    """A run over 100,000 archived files."""
    write_config(folder, "many")
    for number in range(MANY_FILES):
        path = folder / "landing" / "many" / str(number % 100) / f"{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"number": {number}}}\n')
    first = event_archive("ingest", "--settled", cwd=folder)
    again = median([event_archive("ingest", cwd=folder) for _ in range(RUNS)])
    print(
        f"{MANY_FILES:,} files: first ingest {first.seconds:.1f} s, {first.peak_mb:.0f} MB peak; nothing new "
        f"{again.seconds:.2f} s, {again.peak_mb:.0f} MB peak (goals: < 3 s, < 300 MB)"
    )
