"""Bugs that make `verify` call something whole that isn't."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

CAMPAIGN = "tests/verify/test_damage_campaign.py"
LIES = "tests/verify/test_lies.py"
OPTIONS = "tests/verify/test_options.py"
ODD = "tests/event_archive/test_odd_cases.py"
_VERIFY = "event_archive/verify"

PROOF_OF_ALL = (
    a_bug(
        "verify doesn't compare the chain",
        f"{_VERIFY}/walk.py",
        "        if before is not None and known is not None and chosen.previous != known:\n",
        "        if False:\n",
        f"{CAMPAIGN}::test_an_edited_entry_is_named_though_its_own_checksum_is_right",
        row=13,
    ),
    a_bug(
        "verify doesn't compare hashes of files",
        f"{_VERIFY}/files.py",
        "                if hashed.sha256 != file.sha256:\n",
        "                if False:\n",
        f"{CAMPAIGN}::test_every_flipped_bit_is_named_with_what_it_affects",
        row=13,
    ),
    a_bug(
        "verify doesn't notice that the log's end was cut off",
        f"{_VERIFY}/stream.py",
        "            if version > newest + 1 or newest < 0:\n",
        "            if False:\n",
        ODD,
    ),
    a_bug(
        "verify doesn't compare hashes of segments",
        f"{_VERIFY}/seals.py",
        "        elif seen.sha256 != fact.sha256:\n",
        "        elif False:\n",
        CAMPAIGN,
        row=13,
    ),
    a_bug(
        "verify doesn't compare copies of an entry in segments and folder",
        f"{_VERIFY}/walk.py",
        "            if copy.entry == chosen.entry:\n",
        "            if True:\n",
        f"{CAMPAIGN}::test_an_edited_entry_is_named_though_its_own_checksum_is_right",
        row=13,
    ),
    a_bug(
        "verify doesn't compare hashes of checkpoints",
        f"{_VERIFY}/seals.py",
        "        if hashlib.sha256(content).hexdigest() != sealed.checkpoint_sha256:\n",
        "        if False:\n",
        f"{CAMPAIGN}::test_every_flipped_bit_is_named_with_what_it_affects",
        row=13,
    ),
    a_bug(
        "verify takes any pointer to a checkpoint",
        f"{_VERIFY}/seals.py",
        "            if content in self._pointers or _version_in(content) in others:\n",
        "            if True:\n",
        f"{CAMPAIGN}::test_every_flipped_bit_is_named_with_what_it_affects",
        row=13,
    ),
    a_bug(
        "verify doesn't compare states with the log",
        f"{_VERIFY}/seals.py",
        '            if getattr(kept, name) != getattr(expected, name):\n                return name\n        for name in ("segments"',
        '            if False:\n                return name\n        for name in ("segments"',
        f"{LIES}::test_a_state_that_says_something_else_than_the_log_is_found",
    ),
    a_bug(
        "verify doesn't compare checkpoints with the active files",
        f"{_VERIFY}/seals.py",
        "    if files is not None and (listed != files or len(adds) != len(files)):\n",
        "    if False:\n",
        f"{LIES}::test_a_checkpoint_that_names_other_files_than_are_active_is_found",
    ),
    a_bug(
        "verify doesn't compare bounds in the log with the file",
        f"{_VERIFY}/rows.py",
        "        is_right = logged == bounds\n",
        "        is_right = True\n",
        f"{LIES}::test_statistics_by_which_readers_leave_files_out_must_be_true",
    ),
    a_bug(
        "verify compares the rows of compacted files without their commits",
        f"{_VERIFY}/rows.py",
        '        self._check("commit_version", _numbers(rows, "commit_version"), held.versions[spans], counts)\n',
        "",
        f"{LIES}::test_rows_of_a_compacted_file_keep_the_commit_that_brought_them",
    ),
    a_bug(
        "verify compares offsets as a set",
        f"{_VERIFY}/rows.py",
        '        offsets = _numbers(rows, "source_offset")\n',
        '        offsets = np.sort(_numbers(rows, "source_offset"))\n',
        f"{LIES}::test_rows_in_another_order_are_found",
    ),
    a_bug(
        "a deep verify computes row digests and doesn't compare them",
        f"{_VERIFY}/rows.py",
        "            if recorded != found:\n",
        "            if False:\n",
        f"{LIES}::test_another_value_is_found_by_its_row_digest",
    ),
    a_bug(
        "a compaction may drop a stretch",
        f"{_VERIFY}/plan.py",
        "sum(count for _, count in compacted.outputs) != len(all_spans):\n",
        "sum(count for _, count in compacted.outputs) > len(all_spans):\n",
        f"{LIES}::test_a_compaction_that_drops_a_stretch_is_found",
    ),
    a_bug(
        "a sample that takes nothing is a sample",
        f"{_VERIFY}/scope.py",
        "        if drawn >= enough and chosen:\n",
        "        if drawn + file.size_bytes > enough:\n",
        f"{OPTIONS}::test_a_sample_is_drawn_by_its_seed_and_has_its_share_of_the_bytes",
    ),
    a_bug(
        "a sample takes the first files, whatever its seed",
        f"{_VERIFY}/scope.py",
        "    random.Random(seed).shuffle(files := sorted(",
        "    list(files := sorted(",
        f"{OPTIONS}::test_a_sample_is_drawn_by_its_seed_and_has_its_share_of_the_bytes",
    ),
    a_bug(
        "--since leaves out the first commit after it",
        f"{_VERIFY}/scope.py",
        "if file.commit_version > scope.since]\n",
        "if file.commit_version > scope.since + 1]\n",
        f"{OPTIONS}::test_since_a_commit_reads_exactly_the_files_of_later_ones",
    ),
    a_bug(
        "the journal trusts a file that has changed",
        f"{_VERIFY}/journal.py",
        '        "modified_at": stored.modified_at.isoformat(),\n',
        "",
        f"{OPTIONS}::test_a_file_that_has_changed_since_is_read_again",
    ),
    a_bug(
        "the journal is true for ever",
        f"{_VERIFY}/journal.py",
        "            is_young = dt.timedelta(0) <= _now() - proved_at < VALID\n",
        "            is_young = True or _now() - proved_at < VALID\n",
        f"{OPTIONS}::test_a_journal_that_is_old_is_no_proof",
    ),
    a_bug(
        "the journal of a plain proof counts for a deep one",
        f"{_VERIFY}/journal.py",
        '            is_enough = bool(known["is_deep"]) or not self._is_deep\n',
        '            is_enough = "is_deep" in known\n',
        f"{OPTIONS}::test_a_journal_of_hashes_is_no_proof_of_row_digests",
    ),
    a_bug(
        "files that aren't read may be missing",
        f"{_VERIFY}/stream.py",
        "        for path in sorted(unseen):\n",
        "        for path in ():\n",
        f"{OPTIONS}::test_files_that_are_not_read_must_be_there_with_their_sizes",
    ),
)
