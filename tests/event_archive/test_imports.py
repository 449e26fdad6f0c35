"""What ingest must not import: each costs a second in every process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project

PROGRAM = """
import sys
from pathlib import Path
from event_archive.config import load_config
from event_archive.ingest import ingest_stream
print(ingest_stream(load_config(Path(sys.argv[1])), "events").events)
print(sorted({"pandas", "duckdb", "boto3"} & set(sys.modules)))
"""


def test_an_ingest_imports_neither_pandas_nor_what_it_does_not_need(project: Project) -> None:
    """With null and empty values, which are where pyarrow likes to help itself to pandas."""
    project.write("a.jsonl", b"one\n\n\ntwo\n")
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(project.config_file)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "2\n[]\n"
