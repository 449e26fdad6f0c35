"""Copies to, from and between buckets, and repairs out of them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from event_archive.archive.history import iter_commits
from event_archive.archive.snapshot import read_snapshot
from event_archive.copying import copy_stream
from event_archive.diverged import CopyRefused
from event_archive.heads.head import contains_head, read_head
from event_archive.heads.recorded import ObjectsPlace
from event_archive.repair.stream import repair_stream
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore

if TYPE_CHECKING:
    from event_archive.storage.store import Store
    from tests.conftest import Project
    from tests.storage.conftest import NewStore
    from tests.storage.servers import Server


def ingest_files(project: Project, count: int, *, first: int = 0) -> None:
    """One commit a file."""
    for number in range(first, first + count):
        project.write(f"{number}.jsonl", b"".join(b'{"n": %d}\n' % i for i in range(number + 1)))
        project.ingest()


def tree(store: Store) -> dict[str, bytes]:
    """All that a place holds."""
    return {file.name: store.read(file.name) for file in store.files()}


def sealed_project(project: Project) -> None:
    """Makes a table with two seals, and entries after both."""
    for first in (0, 5):
        ingest_files(project, 5, first=first)
        assert seal(project.store, at_least=3)
    ingest_files(project, 2, first=10)


def test_a_copy_goes_to_a_bucket_and_to_another_and_back(project: Project, new_store: NewStore) -> None:
    """Byte for byte all the way, and each time nothing is moved twice."""
    sealed_project(project)
    places = [
        project.store,
        new_store(prefix="one/archive").child("events"),
        new_store(prefix="two").child("events"),
        FolderStore(project.folder / "back" / "events"),
    ]
    for source, target in pairwise(places):
        copy_stream(source, target)
        assert tree(target) == tree(project.store)
        assert contains_head(target, read_head(project.store)) is None
        assert copy_stream(source, target).bytes == 0
    ingest_files(project, 3, first=12)
    assert seal(project.store, at_least=3)
    for source, target in pairwise(places):
        assert copy_stream(source, target).files == 3
        assert tree(target) == tree(project.store)


def test_a_diverged_bucket_is_left_as_it_is(project: Project, new_store: NewStore) -> None:
    """The commit is named; nothing in the bucket changes."""
    ingest_files(project, 2)
    target = new_store().child("events")
    copy_stream(project.store, target)
    other = FolderStore(project.folder / "other" / "events")
    copy_stream(target, other)
    ingest_files(project, 1, first=2)
    copy_stream(project.store, target)
    text = project.config_file.read_text()
    project.config_file.write_text(text.replace("archive: archive", "archive: other"))
    project.ingest()
    before = tree(target)
    with pytest.raises(CopyRefused, match="from commit 3 on"):
        copy_stream(other, target)
    assert tree(target) == before


def test_a_folder_is_repaired_from_a_bucket_and_a_bucket_from_a_folder(
    project: Project, new_store: NewStore
) -> None:
    """Files that are gone or wrong are put back, and nothing else is written."""
    sealed_project(project)
    target = new_store().child("events")
    copy_stream(project.store, target)
    whole = tree(project.store)
    names = [
        read_snapshot(project.store).files[3].path,
        *sorted(whole)[-2:],
        "_delta_log/00000000000000000013.json",
    ]
    for damaged, other in ((project.store, target), (target, project.store)):
        for name in names:
            damaged.delete(name)
        report = repair_stream(damaged, other=other)
        assert report.is_whole
        assert sorted(item.name for item in report.items) == sorted(set(names))
        assert tree(damaged) == whole
    assert list(iter_commits(target)) == list(iter_commits(project.store))


def test_heads_are_kept_as_objects(project: Project, new_store: NewStore) -> None:
    """One for each, and the newest is found."""
    place = ObjectsPlace(new_store(prefix="heads"))
    for number in range(3):
        ingest_files(project, 1, first=number)
        for _ in range(2):
            place.append("events", read_head(project.store), "now")
    assert place.read("events") == [read_head(project.store)]


@pytest.mark.slow
def test_the_commands_take_buckets(project: Project, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """`copy`, heads in a bucket, and `repair --from s3://…`, with the endpoint from the configuration."""
    bucket = server.new_bucket()
    text = project.config_file.read_text()
    project.config_file.write_text(
        f"s3: {{endpoint_url: '{server.endpoint_url}', region: us-east-1}}\nheads: {{s3: s3://{bucket}/heads}}\n{text}"
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    ingest_files(project, 2)
    done = project.run("copy", "archive", f"s3://{bucket}/copy", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["streams"][0]["commits"] == 3
    whole = tree(project.store)
    (project.table / read_snapshot(project.store).files[0].path).unlink()
    assert project.run("verify", "--quick").returncode == 1
    done = project.run("repair", "events", "--from", f"s3://{bucket}/copy")
    assert done.returncode == 0, done.stderr
    assert tree(project.store) == whole
    (project.table / "_delta_log" / "00000000000000000002.json").unlink()
    done = project.run("verify")
    assert done.returncode == 1
    assert "was cut off" in done.stderr
    done = project.run("repair", "events", "--from", f"s3://{bucket}/copy")
    assert done.returncode == 0, done.stderr
    assert tree(project.store) == whole
    assert project.run("verify").returncode == 0
