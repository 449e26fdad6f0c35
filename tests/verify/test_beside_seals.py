"""Whoever proves an archive while others ingest and seal finds no damage that isn't there."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.archive.snapshot import read_snapshot
from event_archive.sealing import seal
from event_archive.storage.folder import FolderStore
from event_archive.verify import verify_stream, verify_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Project

_VERIFIES = 30


class InterruptedStore(FolderStore):
    """A folder in which something happens right before it is looked at for the n-th time."""

    def __init__(self, folder: Path, happens: Callable[[], None], *, at: int) -> None:
        """Nothing happens yet."""
        super().__init__(folder)
        self._happens = happens
        self._at = at
        self.looks = 0

    def _look(self) -> None:
        self.looks += 1
        if self.looks == self._at:
            self._happens()

    def names(self, folder: str) -> list[str]:
        """As in any folder."""
        self._look()
        return super().names(folder)

    def read(self, name: str) -> bytes:
        """As in any folder."""
        self._look()
        return super().read(name)

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """As in any folder."""
        self._look()
        return super().read_many(names)


@pytest.fixture
def sealed(project: Project) -> Project:
    """Sealed once, and some commits."""
    ingest(project, range(4))
    assert seal(project.store, at_least=3) is not None
    ingest(project, range(4, 7))
    return project


def ingest(project: Project, numbers: range) -> None:
    """A commit for each."""
    for number in numbers:
        project.write(f"{number}.jsonl", b'{"x": 1}\n' * 3)
        project.ingest()


@pytest.mark.parametrize("seals", [1, 3])
def test_seals_at_any_moment_of_a_proof_are_no_damage(sealed: Project, tmp_path: Path, seals: int) -> None:
    """They remove entries, states and checkpoints that the proof has listed already."""
    before = tmp_path / "before"
    shutil.copytree(sealed.table, before)

    def happen() -> None:
        for _ in range(seals):
            # A seal of one entry is a seal.
            assert seal(FolderStore(sealed.table), at_least=1) is not None

    at = 1
    while True:
        shutil.rmtree(sealed.table)
        shutil.copytree(before, sealed.table)
        store = InterruptedStore(sealed.table, happen, at=at)
        report = verify_table(store)
        assert report.is_whole, f"sealed before look {at}: {[str(damage) for damage in report.damages]}"
        if store.looks < at:
            break
        at += 1
    assert at > 10


def test_damage_is_found_all_the_same_while_others_seal(sealed: Project) -> None:
    """A newer seal excuses what it has removed, nothing else."""
    (state,) = (sealed.table / layout.OWN_FOLDER).glob("state-*")
    content = bytearray(state.read_bytes())
    content[9] ^= 1
    state.write_bytes(content)
    (sealed.table / layout.LAST_CHECKPOINT).write_bytes(b"{}")
    (sealed.table / layout.entry_name(4)).unlink()
    store = InterruptedStore(sealed.table, lambda: ingest(sealed, range(7, 9)), at=4)
    assert {damage.name.rpartition("/")[2] for damage in verify_table(store).damages} == {
        state.name,
        "_last_checkpoint",
        f"{4:020d}.json",
    }


def test_a_state_that_the_newest_seal_named_must_be_there(sealed: Project) -> None:
    """Those of older ones need not."""
    seal(sealed.store, at_least=3)
    states = sorted((sealed.table / layout.OWN_FOLDER).glob("state-*"))
    checkpoints = sorted((sealed.table / layout.LOG_FOLDER).glob("*.checkpoint.parquet"))
    states[0].unlink()
    checkpoints[0].unlink()
    assert verify_table(sealed.store).is_whole
    states[1].unlink()
    checkpoints[1].unlink()
    missing = {damage.path for damage in verify_table(sealed.store).damages if damage.reason == "is missing"}
    assert missing == {str(states[1]), str(checkpoints[1])}


def test_an_archive_that_is_sealed_all_the_time_is_proved_whole(sealed: Project) -> None:
    """As fast as a thread can ingest and seal."""
    is_over = threading.Event()
    failures: list[BaseException] = []

    def keep_sealing() -> None:
        number = 100
        try:
            while not is_over.is_set():
                ingest(sealed, range(number, number + 2))
                seal(sealed.store, at_least=2)
                number += 2
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=keep_sealing)
    thread.start()
    try:
        verifies = 0
        while not failures and (verifies < _VERIFIES or read_snapshot(sealed.store).version <= 20):
            report = verify_stream(sealed.config(), "events")
            assert report.is_whole, [str(damage) for damage in report.damages]
            verifies += 1
    finally:
        is_over.set()
        thread.join()
    assert not failures
