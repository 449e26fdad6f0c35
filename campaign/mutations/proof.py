"""Bugs that make commits less durable, or proofs less strict."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

RACES = "tests/faults/test_kill_and_race.py"
DURABLE = "tests/event_archive/test_commit_is_durable_before_it_is_visible.py"
VERIFY = "tests/event_archive/test_verify_names_damage.py"
ODD = "tests/event_archive/test_odd_cases.py"

DURABILITY_AND_PROOF = (
    a_bug(
        "data file not synced",
        "event_archive/storage/folder.py",
        "            os.fsync(self._file.fileno())\n",
        "",
        DURABLE,
    ),
    a_bug(
        "entry not synced", "event_archive/durable.py", "            os.fsync(file.fileno())\n", "", DURABLE
    ),
    a_bug(
        "log folder not synced",
        "event_archive/durable.py",
        "        pending.unlink(missing_ok=True)\n    sync(folder)\n",
        "        pending.unlink(missing_ok=True)\n",
        DURABLE,
    ),
    a_bug("new folders not synced", "event_archive/durable.py", "        sync(new.parent)\n", "", DURABLE),
    a_bug(
        "an entry replaces another",
        "event_archive/durable.py",
        "            os.link(pending, folder / name)\n",
        "            os.replace(pending, folder / name)\n",
        RACES,
    ),
    a_bug(
        "an entry is not held to its own hash",
        "event_archive/archive/log.py",
        "    if hashlib.sha256(_put_hash(entry, _BLANK_HASH)).hexdigest().encode() != digest:\n",
        "    if False:\n",
        VERIFY,
    ),
    a_bug(
        "an entry in the middle is used unproved",
        "event_archive/archive/history.py",
        "    if fault := entry_fault(entry):\n",
        "    if not entry and (fault := entry_fault(entry)):\n",
        ODD,
    ),
    a_bug(
        "an entry that is a copy of another is taken",
        "event_archive/archive/log.py",
        '        if facts["version"] != version:\n',
        "        if False:\n",
        ODD,
    ),
    a_bug(
        "a lost log is a new table",
        "event_archive/appending.py",
        "            refuse_lost_log(self._table)\n",
        "",
        ODD,
    ),
    a_bug(
        "a table that another writer creates at this moment is taken for one whose log was lost",
        "event_archive/archive/history.py",
        "    if lost is not None and newest_version(table) < 0:\n",
        "    if lost is not None:\n",
        f"{RACES}::test_a_table_that_another_writer_fills_meanwhile_has_not_lost_its_log",
    ),
    a_bug(
        "an empty entry is taken for an empty commit",
        "event_archive/archive/history.py",
        "            try:\n                commit = _proved(table, version, entry, before)\n",
        "            if not entry:\n                last = version\n                continue\n            try:\n                commit = _proved(table, version, entry, before)\n",
        VERIFY,
    ),
    a_bug(
        "a path may lead out of the table",
        "event_archive/layout.py",
        'or any(part in ("", ".", "..") for part in parts):\n',
        "or False:\n",
        VERIFY,
    ),
)
