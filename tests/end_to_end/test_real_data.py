"""Data that others made: an hour of GH Archive, and the JSON parsing test suite.

They are not part of the project: the tests skip where the data isn't there, and always in continuous integration.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    os.environ.get("CI") == "true" or not DATA.is_dir(),
    reason="needs data sets that are not part of the project",
)


def test_an_hour_of_gh_archive_is_archived_counted_and_replayed(project: Project) -> None:
    """7,702 events: the count, the types by SQL, and the bytes of the decompressed file."""
    original = DATA / "gharchive" / "2015-01-01-0.json.gz"
    text = gzip.decompress(original.read_bytes())
    project.write(original.name, original.read_bytes())
    assert project.run("ingest").returncode == 0
    assert sum(map(len, project.events().values())) == 7702
    query = "select payload->>'type' as type, count(*) as events from archive.events group by 1"
    answered = project.run("sql", query, "--format", "json")
    assert answered.returncode == 0, answered.stderr
    counted = {row["type"]: row["events"] for row in json.loads(answered.stdout)}
    assert counted == Counter(json.loads(line)["type"] for line in text.splitlines())
    assert len(counted) == 14
    assert project.run("replay", "events", "--to", "out").returncode == 0
    (replayed,) = (project.folder / "out").iterdir()
    assert hashlib.sha256(replayed.read_bytes()).digest() == hashlib.sha256(text).digest()


def test_every_document_of_the_json_suite_is_exact_and_payload_is_null_where_it_is_no_json(
    project: Project,
) -> None:
    """A document is an event of one line where it has no line end in it; the others come as several events."""
    documents = {
        path: path.read_bytes() for path in sorted((DATA / "jsontestsuite" / "test_parsing").glob("*.json"))
    }
    assert len(documents) == 318
    for path, content in documents.items():
        project.write(path.name, content)
    assert project.run("ingest", "--settled").returncode == 0
    events = project.events()
    for path, content in documents.items():
        assert events.get(f"file:{path.name}", []) == [line for line in content.split(b"\n") if line], (
            path.name
        )
    answered = project.run(
        "sql", "select source_id, payload is null as is_null from archive.events", "--format", "json"
    )
    assert answered.returncode == 0, answered.stderr
    is_null = {row["source_id"].removeprefix("file:"): row["is_null"] for row in json.loads(answered.stdout)}
    whole = {
        path.name for path, content in documents.items() if len(events.get(f"file:{path.name}", [])) == 1
    }
    wrong = [
        name
        for name in sorted(whole & is_null.keys())
        if name[0] in "yn"
        and b"\n" not in documents[DATA / "jsontestsuite" / "test_parsing" / name][:-1]
        and is_null[name] != (name[0] == "n")
    ]
    assert wrong == []
