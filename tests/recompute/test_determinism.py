"""The same archive gives the same digests: with one thread and with four, and on the DuckDB before this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive.warehouse.kept_digests import digest_marts
from tests.readers.environments import EngineUnavailable, environment
from tests.recompute.real_dbt import ParquetArchive
from tests.recompute.rebuilding import digests

if TYPE_CHECKING:
    from tests.recompute.real_dbt import Dbt
    from tests.recompute.statements import Statements

REPOSITORY = Path(__file__).parents[2]
FILES = 8


@pytest.fixture(scope="module")
def demo_archive(tmp_path_factory: pytest.TempPathFactory) -> ParquetArchive:
    """What the demo's services say, in so many files that several threads read them."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "demo.generate", "--events", "20000", "--seed", "11"]
    subprocess.run(
        [*command, "--landing", str(folder / "landing"), "--truth", str(folder / "truth")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    archive = ParquetArchive(folder / "archive")
    for stream in archive.streams:
        lines = [
            line
            for file in sorted((folder / "landing" / stream).rglob("*.jsonl"))
            for line in file.read_bytes().split(b"\n")
            if line
        ]
        assert len(lines) > 1000
        for part in range(FILES):
            archive.commit_values(stream, [*lines[part::FILES]])
    return archive


def test_rebuilds_with_one_thread_and_with_four_have_the_same_digests(
    dbt: Dbt, demo_archive: ParquetArchive, tmp_path: Path
) -> None:
    """Four threads read and join in any order, models run beside each other; every mart is the same, twice."""
    found = []
    for number, threads in enumerate((1, 4, 4)):
        rebuilt = dbt.on(tmp_path / str(number), threads)
        assert rebuilt.run("run", snapshot=demo_archive.snapshot()) == []
        with rebuilt.connect() as connection:
            made = digest_marts(connection)
        assert min(kept.sums.rows for kept in made) > 5
        found.append({kept.mart: kept.digest for kept in made})
    assert len(found[0]) > 5
    assert found[0] == found[1] == found[2]


def test_another_duckdb_gives_the_same_digests(statements: Statements, tmp_path: Path) -> None:
    """The statements that dbt sends mean the same to DuckDB 1.5: refreshed in steps, rebuilt, and digested."""
    try:
        older = environment("duckdb").python
    except EngineUnavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no older DuckDB in CI: {reason}")
        pytest.skip(f"no older DuckDB: {reason}")
    (site_packages,) = older.parents[1].glob("lib/python*/site-packages")
    file = tmp_path / "statements.json"
    file.write_text(statements.to_json())
    path = os.pathsep.join([str(site_packages), str(REPOSITORY)])
    played = subprocess.run(
        [sys.executable, "-m", "tests.recompute.rebuilding", str(file), "12", "5"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stderr
    answer = json.loads(played.stdout)
    assert answer["version"].startswith("1.")
    assert answer["digests"] == digests(statements, count=12, number=5)
