"""Bugs that a crash at the wrong moment, a disk that refuses, or a power cut brings to light."""

from __future__ import annotations

from campaign.mutations.bug import Bug, Edit, a_bug

POINTS = "tests/crash/test_crash_points.py"
DISTURBED = f"{POINTS}::test_an_operation_that_is_disturbed_anywhere_loses_nothing_and_can_be_done_again"
VISIBLE = f"{POINTS}::test_no_commit_is_visible_or_acknowledged_before_all_that_it_names_is_durable"
KILLED, REFUSED, WITHOUT_POWER = 10, 11, 12


def _at(point: str) -> tuple[str, ...]:
    """The test of one operation with one fault."""
    return (DISTURBED, "-k", f"[{point}]")


CRASHES = (
    a_bug(
        "an entry is synced only after it was linked",
        "event_archive/durable.py",
        "            os.fsync(file.fileno())\n        try:\n            os.link(pending, folder / name)\n",
        "        try:\n            os.link(pending, folder / name)\n            sync(folder / name)\n",
        *_at("ingest-power"),
        row=WITHOUT_POWER,
    ),
    a_bug(
        "a data file's folder is not synced",
        "event_archive/storage/folder.py",
        "            sync(self._path.parent)\n",
        "",
        *_at("compact-power"),
        row=WITHOUT_POWER,
    ),
    a_bug(
        "a commit is acknowledged before the log's folder is synced",
        "event_archive/durable.py",
        "        pending.unlink(missing_ok=True)\n    sync(folder)\n",
        "        pending.unlink(missing_ok=True)\n",
        VISIBLE,
    ),
    a_bug(
        "the folder of published builds is not synced before the switch",
        "event_archive/warehouse/finish.py",
        "    durable.sync(file.parent)\n",
        "",
        *_at("publish-power"),
        "--crash-points",
        "0",
        row=WITHOUT_POWER,
    ),
    a_bug(
        "an entry is written under its own name",
        "event_archive/durable.py",
        "    pending = folder / pending_name\n    try:\n        with pending.open",
        "    if name.endswith('.json'):\n        with (folder / name).open('xb') as file:\n            file.write(content)\n"
        "            os.fsync(file.fileno())\n        sync(folder)\n        return True\n"
        "    pending = folder / pending_name\n    try:\n        with pending.open",
        *_at("ingest-kill"),
        row=KILLED,
    ),
    a_bug(
        "a repair writes over the damaged file",
        "event_archive/storage/folder.py",
        "            pending = path.with_name(_pending_name())\n            try:\n",
        "            path.unlink(missing_ok=True)\n            pending = path.with_name(_pending_name())\n            try:\n",
        *_at("repair-kill"),
        row=KILLED,
    ),
    a_bug(
        "a copy writes the log before the files",
        "event_archive/copying.py",
        "                self._copy_files(stretch, pool)\n                if stretch.segment is None:\n"
        "                    self._copy_entries(stretch)\n",
        "                if stretch.segment is None:\n                    self._copy_entries(stretch)\n"
        "                self._copy_files(stretch, pool)\n                if stretch.segment is None:\n                    pass\n",
        *_at("copy-again-kill"),
        row=KILLED,
    ),
    a_bug(
        "entries are removed before the seal that has them is committed",
        "event_archive/sealing.py",
        "    head = _commit(table, state, fact)\n",
        "    remove_sealed(table, state.version)\n    head = _commit(table, state, fact)\n",
        *_at("seal-kill"),
        row=KILLED,
    ),
    a_bug(
        "a full disk is not noticed",
        "event_archive/storage/folder.py",
        "        with storage_errors(self._path):\n            self._file.write(data)\n",
        "        with contextlib.suppress(OSError):\n            self._file.write(data)\n",
        *_at("compact-ENOSPC"),
        row=REFUSED,
    ),
    a_bug(
        "a sync that fails is taken for one that worked",
        "event_archive/durable.py",
        "        os.fsync(handle)\n    finally:\n",
        "        os.fsync(handle)\n    except OSError:\n        pass\n    finally:\n",
        *_at("ingest-EIO"),
    ),
    Bug(
        "the file of a commit is removed if anything goes wrong after the commit",
        (
            Edit(
                "event_archive/appending.py",
                "        except CommitConflict:\n            if writer:\n",
                "        except BaseException:\n            if writer:\n",
            ),
        ),
        _at("ingest-EIO"),
        REFUSED,
    ),
)
