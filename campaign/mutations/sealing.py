"""Bugs in what happens to old log entries, and in opening a table by its state."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

_TESTS = "tests/sealing/test_sealing.py"
_SEALING = "event_archive/sealing.py"

SEALING = (
    a_bug(
        "an ingest goes on from a seal that another commit came before",
        "event_archive/appending.py",
        "        if head is not None and head.version == self._head.version + 1:\n",
        "        if head is not None:\n",
        f"{_TESTS}::test_a_seal_by_another_writer_moves_no_head_over_a_commit",
    ),
    a_bug(
        "an entry is removed although its segment is damaged",
        _SEALING,
        "    if hashlib.sha256(content).hexdigest() != fact.sha256:\n",
        "    if False:\n",
        f"{_TESTS}::test_an_entry_stays_in_the_folder_while_its_segment_is_damaged",
    ),
    a_bug(
        "a leftover is taken for what should stand under its name",
        _SEALING,
        "    if not table.put_new(name, content) and table.read(name) != content:\n",
        "    if not table.put_new(name, content) and False:\n",
        f"{_TESTS}::test_a_leftover_that_has_rotted_is_put_right_before_a_seal_names_it",
    ),
    a_bug(
        "two seals at once name the same entries",
        _SEALING,
        "        if commit.sealed is not None and not {*commit.sealed.segments} <= {*known, *named_since}:\n",
        "        if False:\n",
        f"{_TESTS}::test_of_two_seals_at_once_one_counts",
    ),
    a_bug(
        "what a lost state named is sealed again",
        _SEALING,
        "    named_since = _named_after(table, before)\n",
        "    named_since: list[SegmentFact] = []\n",
        f"{_TESTS}::test_what_is_sealed_is_not_sealed_again_when_the_newest_state_is_lost",
    ),
    a_bug(
        "a state is believed although no commit names it",
        "event_archive/archive/state.py",
        "        commit.sealed is not None and (commit.sealed.state, commit.sealed.state_sha256) == (name, sha256)\n",
        "        True or (name, sha256)\n",
        f"{_TESTS}::test_a_state_that_no_commit_names_is_not_believed",
    ),
    a_bug(
        "a log that was cut off behind its segments is gone on with",
        "event_archive/archive/history.py",
        "    beyond = [segment for segment in sealed if segment.last > newest]\n",
        "    beyond: list[Segment] = []\n",
        f"{_TESTS}::test_a_log_that_was_cut_off_behind_its_segments_is_refused",
    ),
    a_bug(
        "an older checkpoint is pointed to again",
        _SEALING,
        "        if pointed_to > state.version and",
        "        if False and",
        f"{_TESTS}::test_an_older_checkpoint_is_never_pointed_to_again",
    ),
    a_bug(
        "a file that was removed before its commit is acknowledged",
        "event_archive/appending.py",
        "            self._refuse_lost_file(file.path)\n",
        "            pass\n",
        "tests/faults/test_kill_and_race.py::test_a_file_that_is_removed_before_its_commit_is_never_acknowledged",
    ),
    a_bug(
        "a row digest leaves out which offset a row has",
        "event_archive/archive/row_digest.py",
        '        rows["offset"] = numbers(batch["source_offset"])\n',
        "",
        "tests/event_archive/test_row_digest.py",
    ),
    a_bug(
        "a row digest doesn't tell null from empty",
        "event_archive/archive/row_digest.py",
        "        lengths = np.where(there, lengths, -1)\n",
        "        lengths = np.where(there, lengths, 0)\n",
        "tests/event_archive/test_row_digest.py",
    ),
)
