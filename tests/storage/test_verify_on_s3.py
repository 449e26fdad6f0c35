"""`verify` proves an archive wherever it lies: each kind of damage is named in S3, too."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import pytest

from event_archive.compaction.days import compact_stream
from event_archive.sealing import seal
from event_archive.verify import Scope, verify_table

if TYPE_CHECKING:
    from event_archive.storage.store import Store
    from tests.conftest import Project


def put(store: Store, name: str, content: bytes) -> None:
    """Puts bytes under a name, whatever was there."""
    store.restore(name, [content], sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def table(project: Project, store: Store) -> Store:
    """A sealed and compacted table, in each kind of place."""
    for round_ in range(3):
        for number in range(3):
            project.write(f"{round_}-{number}.jsonl", b'{"x": 1}\n' * 50)
            project.ingest()
        if round_ == 0:
            compact_stream(
                project.config(), "events", until=dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
            )
        else:
            seal(project.store, at_least=2)
    table = store.child("events")
    for file in project.store.files():
        put(table, file.name, project.store.read(file.name))
    return table


def test_damage_is_named_wherever_the_archive_lies(table: Store) -> None:
    """A flipped bit in a file of every kind, and a dropped one."""
    whole = verify_table(table, scope=Scope(is_deep=True))
    assert whole.is_whole, whole.damages
    assert whole.events == 450
    harmless = {name.removeprefix(table.place("")) for name in whole.replaced}
    for name in [file.name for file in table.files() if file.name not in harmless]:
        content = table.read(name)
        middle = len(content) // 2
        put(table, name, content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
        assert name in {damage.name for damage in verify_table(table).damages}
        put(table, name, content)
    lost = next(f.name for f in table.files() if f.name.startswith("ingest_date") and f.name not in harmless)
    content = table.read(lost)
    table.delete(lost)
    assert [damage.name for damage in verify_table(table, scope=Scope(is_quick=True)).damages] == [lost]
    put(table, lost, content)
    assert verify_table(table).is_whole
