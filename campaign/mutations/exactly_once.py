"""Bugs that lose, double or mix events of a topic."""

from __future__ import annotations

from campaign.mutations.bug import Bug, Edit, a_bug

ROWS = "tests/kafka/test_campaign.py"
RECORDS = "tests/kafka/test_ingest_records.py"
CONTRADICTIONS = "tests/kafka/test_ingest_contradictions.py"
FOLLOW = "tests/kafka/test_ingest_follow.py"
READING = "tests/kafka/test_what_is_delivered.py"
RACES = "tests/faults/test_kill_and_race.py"

_KAFKA = "event_archive/sources/kafka"

EXACTLY_ONCE = (
    Bug(
        "positions come from the consumer group, which is written before the commit",
        (
            Edit(
                f"{_KAFKA}/ingest.py",
                "        claims = self._builder.take_claims()\n",
                "        claims = self._builder.take_claims()\n        self._tell_group(claims)\n",
            ),
            Edit(
                f"{_KAFKA}/ingest.py",
                "        appender.open(positions.note)\n",
                "        appender.open(positions.note)\n        _from_group(appender, topic, positions)\n",
            ),
            Edit(
                f"{_KAFKA}/ingest.py",
                "def _place(source",
                """\
def _from_group(appender: Appender, topic: Topic, positions: Positions) -> None:
    from dataclasses import replace

    from confluent_kafka import ConsumerGroupTopicPartitions

    asked = [ConsumerGroupTopicPartitions(f"event-archive-{appender.stream}")]
    (answer,) = topic._admin.list_consumer_group_offsets(asked).values()
    for place in answer.result().topic_partitions:
        claim = positions.by_partition.get(place.partition)
        if claim is not None and place.topic == topic.source.topic:
            positions.by_partition[place.partition] = replace(claim, next_offset=place.offset)


def _place(source""",
            ),
        ),
        (f"{ROWS}::test_an_ingest_killed_at_random_moments_loses_and_doubles_nothing",),
        1,
    ),
    a_bug(
        "a lost race is committed at the next version, without reading positions again",
        "event_archive/archive/commit.py",
        "    if not ours:\n        raise CommitConflict(",
        """\
    if not ours and head.version >= 0:
        from event_archive.archive.snapshot import read_snapshot

        newest = read_snapshot(table)
        newer = Head(newest.version, newest.chain_hash)
        return _append(table, newer, operation, ingested_at=ingested_at, actions=actions, facts=facts)
    if not ours:
        raise CommitConflict(""",
        f"{ROWS}::test_two_and_three_ingests_at_once_that_are_killed_lose_and_double_nothing",
        row=2,
    ),
    a_bug(
        "the log is read again right before a commit, but the positions are not",
        "event_archive/appending.py",
        "        events = file.num_records if file else 0\n",
        """\
        newest = read_snapshot(self._table)
        self._head = Head(newest.version, newest.chain_hash)
        events = file.num_records if file else 0
""",
        f"{ROWS}::test_an_ingest_frozen_in_a_commit_never_commits_what_another_has_meanwhile",
        row=3,
    ),
    a_bug(
        "a version that is taken counts as one's own commit",
        "event_archive/durable.py",
        "        except FileExistsError:\n            return False\n",
        "        except FileExistsError:\n            return True\n",
        f"{ROWS}::test_an_ingest_frozen_in_a_commit_never_commits_what_another_has_meanwhile",
        row=3,
    ),
    a_bug(
        "an ingest that follows gives up when the brokers are away",
        "event_archive/ingest.py",
        "            if follow is None:\n                raise\n",
        "            raise\n",
        f"{ROWS}::test_a_broker_that_restarts_loses_and_doubles_nothing",
        row=4,
    ),
    a_bug(
        "a partition that had no leader is forgotten",
        f"{_KAFKA}/ingest.py",
        " or not self._unread.isdisjoint(now.led)",
        "",
        f"{ROWS}::test_a_leader_that_is_lost_loses_and_doubles_nothing",
        row=4,
    ),
    a_bug(
        "partitions that are added to a busy topic are not noticed",
        f"{_KAFKA}/ingest.py",
        "    def _is_same_topic(self) -> bool:\n",
        "    def _is_same_topic(self) -> bool:\n        self._looked_at = time.monotonic()\n",
        f"{ROWS}::test_partitions_added_under_an_ingest_are_archived_from_their_first_event",
        row=6,
    ),
    a_bug(
        "what could not be written stays on the full disk",
        "event_archive/appending.py",
        "            self.abandon()  # a half-written file would keep a full disk full\n",
        "",
        f"{ROWS}::test_a_file_that_may_not_grow_is_a_clear_error_and_leaves_nothing",
        row=5,
    ),
    a_bug(
        "what could not be ended stays on the full disk",
        "event_archive/appending.py",
        "        except BaseException:\n            if writer:\n                writer.abandon()\n            raise\n",
        "        except BaseException:\n            raise\n",
        f"{ROWS}::test_a_file_that_may_not_grow_is_a_clear_error_and_leaves_nothing",
        row=5,
    ),
    a_bug(
        "a full disk is taken for a full commit",
        "event_archive/archive/data_file.py",
        "            self._output.flush()\n            self._file.finish()\n",
        """\
            from event_archive.errors import StorageError

            with contextlib.suppress(OSError, StorageError):
                self._output.flush()
            with contextlib.suppress(OSError, StorageError):
                self._file.finish()
""",
        f"{ROWS}::test_a_full_disk_under_ingests_is_a_clear_error_and_they_go_on_when_there_is_room",
        f"{ROWS}::test_a_file_that_may_not_grow_is_a_clear_error_and_leaves_nothing",
        row=5,
    ),
    a_bug(
        "gap swallowed",
        f"{_KAFKA}/plan.py",
        "gap_from=claim.next_offset if is_gap else None,",
        "gap_from=None,",
        f"{ROWS}::test_events_deleted_before_an_ingest_came_are_exactly_the_recorded_gap",
        row=6,
    ),
    a_bug(
        "what was deleted under a running ingest is jumped over, as with auto.offset.reset",
        f"{_KAFKA}/reading.py",
        'auto_offset_reset="error",',
        'auto_offset_reset="earliest",',
        f"{ROWS}::test_events_deleted_under_an_ingest_are_exactly_the_recorded_gap",
        row=6,
    ),
    a_bug(
        "another topic under the same name is taken for the archived one",
        f"{_KAFKA}/plan.py",
        "        if claim.topic_id != state.identity.topic_id:\n            raise SourceProblem(",
        "        if False:\n            raise SourceProblem(",
        f"{ROWS}::test_a_topic_made_anew_under_an_ingest_is_not_mixed_with_the_old_one",
        row=6,
    ),
    a_bug(
        "a partition that is added begins where the stream did: at its latest event",
        f"{_KAFKA}/plan.py",
        "first_offsets = _first_offsets(topic, state) if is_first else {}",
        "first_offsets = _first_offsets(topic, state)",
        f"{ROWS}::test_partitions_added_under_an_ingest_are_archived_from_their_first_event",
        row=6,
    ),
    a_bug(
        "events behind an open transaction are waited for",
        f"{_KAFKA}/plan.py",
        'target = bounds.high if source.isolation == "read_uncommitted" else bounds.stable',
        "target = bounds.high",
        f"{RECORDS}::test_an_open_transaction_holds_events_back_and_status_says_so",
        "-o",
        "timeout=60",
    ),
    a_bug(
        "positions of commits that look older than the newest are ignored",
        f"{_KAFKA}/positions.py",
        '        """Takes in the claims of the next commit."""\n',
        '''\
        """Takes in the claims of the next commit."""
        if commit.ingested_at_us < getattr(self, "_newest_us", 0):
            return
        self._newest_us = commit.ingested_at_us
''',
        f"{ROWS}::test_a_clock_that_jumps_back_a_day_changes_nothing_but_dates",
        row=7,
    ),
    a_bug(
        "a broker that ends before our position is read all the same",
        f"{_KAFKA}/plan.py",
        "elif bounds.high < claim.next_offset:",
        "elif False:",
        f"{ROWS}::test_a_broker_restored_from_an_old_copy_is_not_followed_until_that_is_accepted",
        row=8,
    ),
    a_bug(
        "the newest archived event is not compared with the broker's",
        f"{_KAFKA}/reading.py",
        "return message_digest(message) != start.anchor_digest",
        "return False",
        f"{ROWS}::test_a_broker_restored_from_an_old_copy_is_not_followed_until_that_is_accepted",
        row=8,
    ),
    a_bug(
        "events in place of known holes are taken for archived ones",
        f"{_KAFKA}/reading.py",
        'return self._source.isolation == "read_committed" and offset < start.position',
        "return False",
        f"{ROWS}::test_events_in_place_of_known_holes_are_not_taken_for_archived_ones",
        row=8,
    ),
    a_bug(
        "that the client is told of lost offsets is no reason to look again",
        f"{_KAFKA}/reading.py",
        "        if error.code() in _PLAN_ANEW:\n            return True\n",
        "        if error.code() in _PLAN_ANEW:\n            return False\n",
        f"{ROWS}::test_a_broker_restored_under_an_ingest_is_not_followed_until_that_is_accepted",
        row=8,
    ),
    a_bug(
        "an accepted partition has the generation that it had",
        f"{_KAFKA}/accept.py",
        "generation = decode_source_id(claim.source_id)[2] + 1",
        "generation = decode_source_id(claim.source_id)[2]",
        f"{CONTRADICTIONS}::test_a_broker_with_less_than_the_archive_stops_that_partition",
    ),
    a_bug(
        "an accepted topic has the generation that it had",
        f"{_KAFKA}/accept.py",
        "generation = positions.generation + 1",
        "generation = positions.generation",
        f"{CONTRADICTIONS}::test_a_topic_that_was_made_anew_is_never_mixed_with_the_old_one",
    ),
    a_bug(
        "the file of a commit that landed is removed when its answer is an error",
        "event_archive/appending.py",
        "        except CommitConflict:\n            if writer:\n                writer.abandon()\n            raise\n",
        "        except Exception:\n            if writer:\n                writer.abandon()\n            raise\n",
        f"{ROWS}::test_a_commit_whose_answer_was_lost_is_never_made_twice",
        row=9,
    ),
    a_bug(
        "a commit whose answer was an error is made once more",
        "event_archive/archive/commit.py",
        "    ours = table.put_new(layout.entry_name(version), entry)\n",
        """\
    from event_archive.archive.snapshot import read_snapshot
    from event_archive.errors import StorageError

    try:
        ours = table.put_new(layout.entry_name(version), entry)
    except StorageError:
        newest = read_snapshot(table)
        newer = Head(newest.version, newest.chain_hash)
        return _append(table, newer, operation, ingested_at=ingested_at, actions=actions, facts=facts)
""",
        f"{ROWS}::test_a_commit_whose_answer_was_lost_is_never_made_twice",
        row=9,
    ),
    a_bug(
        "of two first writers, the later one takes its own table for the one that is there",
        "event_archive/archive/commit.py",
        "    if not ours:\n",
        "    if not ours and head.version >= 0:\n",
        f"{ROWS}::test_first_writers_that_meet_before_the_first_commit_create_one_table",
        row=9,
    ),
    a_bug(
        "the topic's id is not asked before a commit",
        f"{_KAFKA}/ingest.py",
        "        if not self._is_same_topic():\n            return False\n",
        "",
        f"{CONTRADICTIONS}::test_a_topic_made_anew_under_a_running_ingest_is_not_archived",
        f"{READING}::test_records_of_a_topic_made_anew_while_they_were_read_are_dropped",
    ),
    a_bug(
        "an offset that comes twice is archived twice",
        f"{_KAFKA}/batches.py",
        "        if (steps <= 0).any():\n",
        "        if False:\n",
        f"{READING}::test_an_offset_that_comes_twice_is_refused",
    ),
    a_bug(
        "the file of a lost race stays",
        "event_archive/appending.py",
        "        except CommitConflict:\n            if writer:\n                writer.abandon()\n            raise\n",
        "        except CommitConflict:\n            raise\n",
        f"{RACES}::test_a_writer_that_was_paused_before_its_commit_can_not_commit_what_another_has",
    ),
    a_bug(
        "an ingest that is ended leaves what it has read",
        f"{_KAFKA}/ingest.py",
        "        if builder.has_something:\n            is_over &= self._commit()\n",
        "        if builder.has_something and self._follow is None:\n            is_over &= self._commit()\n",
        f"{FOLLOW}::test_sigterm_ends_it_with_a_last_commit",
    ),
    a_bug(
        "an ingest that follows commits when it has enough, and only then",
        f"{_KAFKA}/ingest.py",
        "        if self._follow is None or self._oldest_pending is None:\n            return False\n",
        "        return False\n",
        f"{FOLLOW}::test_events_are_committed_within_the_latency_and_not_one_by_one",
    ),
)
