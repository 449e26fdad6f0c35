"""Quick versions of every row of the campaign: damage done on a real broker, and the archive held against an independent record.

Each raises if an event is lost, doubled or changed. `make campaign` runs the long versions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from campaign.ingesters import Forks
from campaign.report import RowReport
from campaign.rows import ROWS, answers, brokers, clock, disk, frozen, killed, less, topics
from campaign.settings import QUICK
from campaign.world import Campaign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from demo.kafka.broker import Kafka
    from tests.kafka.conftest import PrivateKafka

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def forks(kafka_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """The process that forks ingests."""
    with Forks(tmp_path_factory.mktemp("commands")) as made:
        yield made


@pytest.fixture
def campaign(tmp_path: Path, forks: Forks, kafka: Kafka, private_kafka: PrivateKafka) -> Campaign:
    """A quick campaign on the shared broker."""
    return Campaign(tmp_path, forks, kafka, private_kafka, QUICK)


def run(
    campaign: Campaign, part: Callable[[Campaign, RowReport], None], *, rounds: int = QUICK.rounds
) -> RowReport:
    """Runs a part of a row."""
    (row,) = (row for row in ROWS if part in row.parts)
    campaign.settings = replace(campaign.settings, rounds=rounds)
    report = RowReport(row.number, row.title)
    part(campaign, report)
    return report


def test_an_ingest_killed_at_random_moments_loses_and_doubles_nothing(campaign: Campaign) -> None:
    """Again and again, while producers write."""
    report = run(campaign, killed.kill_one)
    assert sum(count for what, count in report.done.items() if what.startswith("killed")) == QUICK.kills
    assert report.acknowledged > 1000


def test_two_and_three_ingests_at_once_that_are_killed_lose_and_double_nothing(campaign: Campaign) -> None:
    """They race for most commits, and say so when they lose one."""
    run(campaign, killed.kill_several)


def test_an_ingest_frozen_in_a_commit_never_commits_what_another_has_meanwhile(campaign: Campaign) -> None:
    """At three exact moments, and at moments found by watching an unchanged process."""
    run(campaign, frozen.freeze)


def test_a_broker_that_restarts_loses_and_doubles_nothing(campaign: Campaign) -> None:
    """One ingest follows through it all."""
    run(campaign, brokers.restart, rounds=1)


def test_a_leader_that_is_lost_loses_and_doubles_nothing(campaign: Campaign) -> None:
    """On a cluster of three; nor does an ingest that began without a leader forget its partition."""
    run(campaign, brokers.lose_leaders, rounds=1)


def test_a_file_that_may_not_grow_is_a_clear_error_and_leaves_nothing(campaign: Campaign) -> None:
    """Whether it's refused while it is written or when it is ended."""
    run(campaign, disk.limit_files)


def test_a_full_disk_under_ingests_is_a_clear_error_and_they_go_on_when_there_is_room(
    campaign: Campaign,
) -> None:
    """On a small file system, where the test may mount one."""
    run(campaign, disk.fill)


def test_events_deleted_before_an_ingest_came_are_exactly_the_recorded_gap(campaign: Campaign) -> None:
    """No event more, none less."""
    run(campaign, topics.delete_between_ingests, rounds=1)


def test_events_deleted_under_an_ingest_are_exactly_the_recorded_gap(campaign: Campaign) -> None:
    """It stood still meanwhile."""
    run(campaign, topics.delete_under_follow, rounds=1)


def test_events_deleted_by_retention_are_exactly_the_recorded_gap(campaign: Campaign) -> None:
    """By the broker's own."""
    run(campaign, topics.let_retention_delete, rounds=1)


def test_a_topic_made_anew_under_an_ingest_is_not_mixed_with_the_old_one(campaign: Campaign) -> None:
    """It's archived as a second generation once that is accepted."""
    run(campaign, topics.make_anew, rounds=1)


def test_partitions_added_under_an_ingest_are_archived_from_their_first_event(campaign: Campaign) -> None:
    """Though the stream starts at the latest ones."""
    run(campaign, topics.add_partitions, rounds=1)


def test_a_transaction_left_open_holds_back_what_follows_and_status_says_why(campaign: Campaign) -> None:
    """Until it is committed or aborted."""
    run(campaign, topics.leave_transaction_open, rounds=1)


def test_a_clock_that_jumps_back_a_day_changes_nothing_but_dates(campaign: Campaign) -> None:
    """The ingest's own."""
    run(campaign, clock.jump, rounds=1)


def test_a_broker_restored_from_an_old_copy_is_not_followed_until_that_is_accepted(
    campaign: Campaign,
) -> None:
    """Whether it has less than the archive, or more by now."""
    run(campaign, less.restore)


def test_a_broker_restored_under_an_ingest_is_not_followed_until_that_is_accepted(campaign: Campaign) -> None:
    """The ingest stood still meanwhile, and the broker has more than the archive when it wakes up."""
    run(campaign, less.restore_under_follow, rounds=1)


def test_events_in_place_of_known_holes_are_not_taken_for_archived_ones(campaign: Campaign) -> None:
    """All that the broker had lost were aborted events."""
    run(campaign, less.restore_behind_holes, rounds=1)


def test_a_leader_that_had_fallen_behind_is_not_followed_until_that_is_accepted(campaign: Campaign) -> None:
    """An unclean election."""
    run(campaign, less.elect_uncleanly, rounds=1)


def test_a_commit_whose_answer_was_lost_is_never_made_twice(campaign: Campaign) -> None:
    """Nor one around which the process died."""
    run(campaign, answers.lose_answers, rounds=1)


def test_first_writers_that_meet_before_the_first_commit_create_one_table(campaign: Campaign) -> None:
    """Five of them."""
    run(campaign, answers.create_at_once)
