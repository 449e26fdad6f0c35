"""Dagster's records of ingests are a witness: what was cut off the archive since is found by its proof."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from event_archive import layout
from event_archive.heads.head import contains_head, decode_document, read_head

if TYPE_CHECKING:
    from tests.orchestration.conftest import Place

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
BOOKINGS = "event_archive/bookings"
CHECK = f"{BOOKINGS}:archive_is_whole"


def land_one(place: Place, number: int) -> None:
    """One more file of one event."""
    path = place.landing("bookings") / f"{number}.jsonl"
    path.write_text(f'{{"event_id": "{number}"}}\n', encoding="utf-8")


def test_the_head_of_each_ingest_is_in_its_metadata(place: Place) -> None:
    """As `event-archive head --json` prints it, with version, chain hash and counts."""
    land_one(place, 1)
    made = place.run("ingest").materialized[BOOKINGS]
    head = read_head(place.config.table("bookings"))
    assert made["archive version"] == head.version
    assert made["chain hash"] == head.chain_hash
    assert decode_document(json.dumps(made["head"])).streams == {"bookings": head}


def test_commits_that_were_cut_off_fail_the_proof_of_the_archive(place: Place) -> None:
    """Nothing in the archive shows it; and an ingest after it doesn't hide it."""
    for number in range(3):
        land_one(place, number)
        assert place.run("ingest").succeeded
    assert place.run("verify_archive").checks[CHECK].passed
    table = Path(place.config.table("bookings").url)
    newest = read_head(place.config.table("bookings"))
    (table / layout.entry_name(newest.version)).unlink()
    ran = place.run("verify_archive")
    assert not ran.succeeded
    failed = ran.failed_checks[CHECK]
    assert "was cut off" in str(failed["the first of them"])
    land_one(place, 3)
    assert place.run("ingest").succeeded, "what is lost is read again, into other commits"
    assert contains_head(place.config.table("bookings"), newest) is not None
    ran = place.run("verify_archive")
    assert "was replaced" in str(ran.failed_checks[CHECK]["the first of them"])
    assert ran.checks["event_archive/cart_events:archive_is_whole"].passed
