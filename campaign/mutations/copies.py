"""Bugs in what keeps an archive twice: heads, copies, repairs."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

COPYING = "event_archive/copying.py"
HEADS = "event_archive/heads/head.py"
RECORDED = "event_archive/heads/recorded.py"
REPAIR = "event_archive/repair/stream.py"
REPAIR_LOG = "event_archive/repair/entries.py"
REPAIR_SEALS = "event_archive/repair/seals.py"
COPIED = (
    "tests/copying/test_copying.py",
    "tests/copying/test_copying_seals.py",
    "tests/copying/test_no_copy.py",
)
KEPT = "tests/heads/test_heads.py"
NOTED = "tests/heads/test_recorded_heads.py"
REPAIRED = ("tests/repair/test_repair.py", "tests/repair/test_repair_with_heads.py")
FROM_SOURCE = "tests/repair/test_repair_from_source.py"

COPIES = (
    a_bug(
        "a copy writes the log first",
        COPYING,
        "                self._copy_files(stretch, pool)\n"
        "                if stretch.segment is None:\n"
        "                    self._copy_entries(stretch)\n"
        "                else:\n"
        "                    self._copy_segment(stretch, stretch.segment)\n",
        "                if stretch.segment is None:\n"
        "                    self._copy_entries(stretch)\n"
        "                else:\n"
        "                    self._copy_segment(stretch, stretch.segment)\n"
        "                self._copy_files(stretch, pool)\n",
        *COPIED,
    ),
    a_bug(
        "a copy compares no hashes",
        COPYING,
        "            self._target.restore(name, self._shown(self._source.chunks(name)), sha256=file.sha256)\n",
        '            content = b"".join(self._shown(self._source.chunks(name)))\n'
        "            self._target.restore(name, [content], sha256=hashlib.sha256(content).hexdigest())\n",
        *COPIED,
    ),
    a_bug(
        "a copy overwrites a diverged target",
        COPYING,
        "        raise why_no_copy(self._source, self._target)\n",
        "        return None\n",
        *COPIED,
    ),
    a_bug(
        "a copy takes another commit for its own",
        COPYING,
        "            elif self._target.read(name) != entry:\n",
        "            elif not self._target.read(name):\n",
        *COPIED,
    ),
    a_bug(
        "a copy skips what has the name of a file",
        COPYING,
        "                return found.sha256 == file.sha256\n",
        "                return found.size_bytes == file.size_bytes\n",
        *COPIED,
    ),
    a_bug(
        "a copy lets entries go that are nowhere else",
        COPYING,
        "            if earlier and has_segments and pinned.version > version:\n",
        "            if earlier and pinned.version > version:\n",
        *COPIED,
    ),
    a_bug(
        "seals reach a copy before what they name",
        COPYING,
        "        for segment in sealed.segments:\n"
        "            self._copy_own(segment.name, segment.sha256)\n"
        "        if sealed in self._seals.values():\n",
        "        if sealed in self._seals.values() and not sealed.segments:\n",
        *COPIED,
    ),
    a_bug(
        "a head is there if its version is",
        HEADS,
        "    if found != head.chain_hash:\n",
        "    if False:\n",
        KEPT,
    ),
    a_bug(
        "a head of another table is as good",
        HEADS,
        "    if table_id != head.table_id:\n",
        "    if False:\n",
        KEPT,
    ),
    a_bug(
        "the counts of a head are not compared",
        HEADS,
        "            are_equal = (head.events, head.value_bytes) == (self._events, self._value_bytes)\n",
        "            are_equal = head.events >= 0\n",
        KEPT,
    ),
    a_bug(
        "a state that no commit names is believed about heads",
        HEADS,
        "        is_confirmed = seal is None\n",
        "        is_confirmed = True\n",
        KEPT,
    ),
    a_bug(
        "a head that can't be recorded stops the ingest",
        RECORDED,
        '            failures.append(f"THE HEAD WAS NOT RECORDED: {error}")\n',
        "            raise RuntimeError from error\n",
        NOTED,
    ),
    a_bug(
        "only the newest recorded head counts",
        RECORDED,
        "        return list(dict.fromkeys(doc.streams[stream] for doc in documents if stream in doc.streams))\n",
        "        return [doc.streams[stream] for doc in documents[-1:] if stream in doc.streams]\n",
        NOTED,
    ),
    a_bug(
        "a repair trusts the copy",
        REPAIR,
        "                self._table.restore(name, other.chunks(name), sha256=file.sha256)\n",
        '                content = b"".join(other.chunks(name))\n'
        "                self._table.restore(name, [content], sha256=hashlib.sha256(content).hexdigest())\n",
        *REPAIRED,
    ),
    a_bug(
        "a repair replaces good files",
        REPAIR,
        "                if hashed.sha256 == file.sha256:\n                    return None\n",
        "",
        *REPAIRED,
    ),
    a_bug(
        "a repair takes any whole entry",
        REPAIR_LOG,
        "        return hashlib.sha256(entry).hexdigest() == expected\n",
        "        return entry_fault(entry) is None\n",
        *REPAIRED,
    ),
    a_bug(
        "a repair lets a head overrule what is whole",
        REPAIR_LOG,
        "        if found and head not in found:\n",
        "        if False:\n",
        *REPAIRED,
    ),
    a_bug(
        "a repair takes the newest entry from the copy unproved",
        REPAIR_LOG,
        "(expected or shown & {*_SHOWN_HASH.findall(entry)})",
        "(expected or shown is not None)",
        *REPAIRED,
    ),
    a_bug(
        "a repair of a log that isn't known whole changes the pointer",
        REPAIR_SEALS,
        "    if is_log_whole:  # else a newer seal may be among what isn't known\n",
        "    if seals:\n",
        *REPAIRED,
    ),
    a_bug(
        "a dry run repairs",
        REPAIR,
        "        if self._dry_run:\n            pass\n        elif not wrong.is_entry_missing:\n",
        "        if not wrong.is_entry_missing:\n",
        *REPAIRED,
    ),
    a_bug(
        "a rebuilt file forgets when it was ingested",
        "event_archive/repair/source.py",
        "dt.timedelta(microseconds=commit.ingested_at_us)",
        "dt.timedelta(microseconds=commit.ingested_at_us // 1000 * 1000)",
        FROM_SOURCE,
    ),
    a_bug(
        "how rows were read shows in the file",
        "event_archive/archive/data_file.py",
        "        events = _as_written(events)\n",
        "",
        "tests/event_archive/test_data_file.py",
    ),
)
