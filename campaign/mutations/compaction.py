"""Bugs of what keeps an archive small: a compaction that loses, changes or doubles events, a cleaning that takes too much."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

COMPACTION = "tests/compact/test_compaction.py"
PROVED = "tests/compact/test_proved_merges.py"
READING = "tests/compact/test_reading_by_commit.py"
THE_SAME = "tests/compact/test_everything_reads_the_same.py"
CLEAN = ("tests/clean/test_clean.py", "tests/clean/test_clean_seals.py")
_MERGING = "event_archive/compaction/merging.py"
_READING = "event_archive/archive/events_by_commit.py"
_CLEAN = "event_archive/clean.py"

KEEPING_SMALL = (
    a_bug(
        "a compaction drops a row",
        _MERGING,
        "                writer.write(rows)\n",
        "                writer.write(rows.slice(1))\n",
        COMPACTION,
    ),
    a_bug(
        "a compaction drops a row and does not read back",
        _MERGING,
        "        _prove_all(table, written, spans, held)\n",
        "        pass\n",
        f"{PROVED}::test_a_merge_that_errs_is_found_out",
    ),
    a_bug(
        "a compaction reorders events of a partition",
        "event_archive/archive/span_table.py",
        "np.lexsort((self.first_offsets, self.partitions,",
        "np.lexsort((-self.first_offsets, self.partitions,",
        COMPACTION,
    ),
    a_bug(
        "row digests are not compared after a compaction",
        _MERGING,
        "    if found != wanted:\n",
        "    if len(found) != len(wanted):\n",
        f"{PROVED}::test_a_merge_that_errs_is_found_out",
    ),
    a_bug(
        "commit versions are not compared after a compaction",
        _MERGING,
        "                _prove_stored(rows, spans, expected[of_span], place)\n",
        "",
        f"{PROVED}::test_a_merge_that_errs_is_found_out",
    ),
    a_bug(
        "sources are not compared after a compaction",
        _MERGING,
        "    if not np.array_equal(spans.source_codes(rows), spans.sources[of_row]):\n",
        "    if False:\n",
        f"{PROVED}::test_a_merge_that_errs_is_found_out",
    ),
    a_bug(
        "a compaction believes what it wrote",
        _MERGING,
        "        if (hashed.size_bytes, hashed.sha256) != (new.size_bytes, new.sha256):\n",
        "        if False:\n",
        f"{PROVED}::test_what_a_disk_gives_back_is_compared_before_it_counts",
    ),
    a_bug(
        "a compaction believes the files that it merges",
        _MERGING,
        "            if (hashed.size_bytes, hashed.sha256) != (file.size_bytes, file.sha256):\n",
        "            if False:\n",
        f"{COMPACTION}::test_a_damaged_file_is_left_alone_and_named",
    ),
    a_bug(
        "a compaction commits over files that are gone",
        "event_archive/compaction/days.py",
        "            if is_void:\n",
        "            if False:\n",
        COMPACTION,
    ),
    a_bug(
        "a file ends in the middle of a span",
        _MERGING,
        "int(self._ends[np.searchsorted(self._ends, self._rows)])",
        "self._rows",
        COMPACTION,
    ),
    a_bug(
        "what was written away for want of memory is not proved",
        "event_archive/archive/rearrange.py",
        "        if zlib.crc32(content) != self.checksum:\n",
        "        if len(content) != self.size_bytes:\n",
        "tests/compact/test_rearranging.py",
    ),
    a_bug(
        "compacted files are read in their own order",
        _READING,
        "rearranger.add(rows, lengths, which)",
        "rearranger.add(rows, lengths, which * 0)",
        READING,
        THE_SAME,
    ),
    a_bug(
        "a replay begins a compacted commit anew",
        _READING,
        "        skipped = begin[1] - rows.first_row if rows.version == begin[0] else 0\n",
        "        skipped = 0\n",
        READING,
    ),
    a_bug(
        "files that were replaced go at once",
        _CLEAN,
        "        if self._now - replaced_at > self._keep_replaced:\n",
        "        if True:\n",
        *CLEAN,
    ),
    a_bug(
        "active files are cleaned away when they are old",
        _CLEAN,
        "        elif name in history.active or name == layout.LAST_CHECKPOINT:\n",
        "        elif (name in history.active and not is_old) or name == layout.LAST_CHECKPOINT:\n",
        *CLEAN,
    ),
    a_bug(
        "what is committed while cleaning is removed",
        _CLEAN,
        "        if is_named and file.reason in",
        "        if False and file.reason in",
        *CLEAN,
    ),
    a_bug(
        "replaced files go though their successor is damaged",
        _CLEAN,
        "                damaged.add(name)\n",
        "                pass\n",
        *CLEAN,
    ),
    a_bug(
        "a log that was cut off is cleaned",
        _CLEAN,
        "        if version is not None and version > newest + 1:\n",
        "        if False:\n",
        *CLEAN,
    ),
    a_bug(
        "foreign files are cleaned away",
        _CLEAN,
        "        if version is None and _COMPACTED_NAME not in file.name:\n",
        "        if False:\n",
        *CLEAN,
    ),
    a_bug(
        "entries are removed unseen though their segment is damaged",
        _CLEAN,
        "= _is_whole(self._table, fact.name, fact.sha256)",
        "= True",
        *CLEAN,
    ),
)
