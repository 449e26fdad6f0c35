"""What changes on the way is said in words; chance isn't."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from event_archive.schema.scan import Asked
from event_archive.schema.stream import stream_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import Project

REPOSITORY = Path(__file__).parents[2]


def commit(project: Project, name: str, events: Iterable[dict[str, Any]]) -> None:
    """Archives events in a commit of their own."""
    project.write(name, b"".join(json.dumps(event).encode() + b"\n" for event in events))
    project.ingest(settled=True)


def drift_of(project: Project, **asked: Any) -> list[str]:
    """What has changed."""
    return list(stream_schema(project.config(), "events", Asked(type_field="event_type", **asked)).drift)


def test_what_appears_vanishes_is_renamed_and_changes_its_type_is_said(project: Project) -> None:
    """Three versions of a stream, a commit each."""
    commit(
        project, "1.jsonl", [{"id": n, "price": n / 4, "quantity": n, "coupon": None} for n in range(1, 40)]
    )
    commit(
        project,
        "2.jsonl",
        [{"id": n, "unit_price": n / 4, "quantity": n, "coupon": "x"} for n in range(1, 40)],
    )
    commit(
        project,
        "3.jsonl",
        [
            {"id": n, "unit_price": n / 4, "quantity": str(n), "coupon": "x", "to": {"city": "y"}}
            for n in range(1, 40)
        ],
    )
    assert drift_of(project) == [
        "coupon changed its type from null to string after commit 1",
        "price vanished after commit 1; none in the 78 events since; perhaps it was renamed: unit_price of the same type appeared then",
        "quantity changed its type from integer to string after commit 2",
        "unit_price appeared with commit 2; since then 100 % of the events that may have it do",
        "to appeared with commit 3; since then 100 % of the events that may have it do",
    ]


def test_a_type_of_events_that_appears_is_said_once_and_not_for_each_of_its_fields(project: Project) -> None:
    """The fields of a new type of events aren't new in the types that were there before."""
    commit(project, "1.jsonl", [{"event_type": "added", "sku": "x"} for _ in range(50)])
    commit(project, "2.jsonl", [{"event_type": "removed", "why": "y"} for _ in range(50)])
    assert drift_of(project) == [
        "events of type added vanished after commit 1; none among the 50 events since",
        "events of type removed appeared with commit 2; since then 100 % of events are",
    ]


def test_rare_things_are_no_drift(project: Project) -> None:
    """A field in one of a hundred events, one in four of all, and a broken event, come late and end early by chance."""
    rng = random.Random(3)
    for number in range(8):
        events: list[dict[str, Any]] = [
            {"id": n, **({"note": "x"} if rng.random() < 0.01 else {})} for n in range(200)
        ]
        if number in (2, 3, 4, 5):
            events[3] = {"id": number, "by_chance": 1}
        if number == 5:
            events[4:8] = [{"id": "broken"}]
        commit(project, f"{number}.jsonl", events)
    assert drift_of(project) == []


def test_the_demo_has_no_drift(project: Project) -> None:
    """Types of events, versions, duplicates and malformed events occur all the time: none of that is a change."""
    command = [sys.executable, "-m", "demo.generate", "--events", "6000", "--seed", "4"]
    subprocess.run(
        [*command, "--landing", str(project.folder / "demo"), "--truth", str(project.folder / "truth")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    lines = [
        line
        for path in sorted((project.folder / "demo" / "cart_events").rglob("*.jsonl"))
        for line in path.read_bytes().splitlines()
        if line.strip()
    ]
    assert len(lines) > 1000
    half = len(lines) // 2
    for number, part in enumerate((lines[:half], lines[half:])):
        project.write(f"{number}.jsonl", b"".join(line + b"\n" for line in part))
        project.ingest(settled=True)
    assert drift_of(project) == []


def test_by_the_events_own_time_a_backfill_in_one_commit_shows_its_drift(project: Project) -> None:
    """All events come in one commit; their days tell what changed when."""
    events = [
        {"at": f"2026-03-{1 + n // 40:02d}T12:00:00Z", **({"new": 1} if n >= 200 else {})} for n in range(400)
    ]
    random.Random(1).shuffle(events)
    commit(project, "all.jsonl", events)
    assert drift_of(project) == []
    assert drift_of(project, time_field="at") == [
        "new appeared with 2026-03-06; since then 100 % of the events that may have it do"
    ]


def test_a_share_that_falls_from_one_day_to_the_next_is_said(project: Project) -> None:
    """A field that was nearly always there is there half of the time; days with few events say nothing."""
    rng = random.Random(2)
    events = []
    for day in range(1, 7):
        share = 0.95 if day < 4 else 0.5
        events += [
            {"at": f"2026-03-{day:02d}T12:00:00Z", **({"x": 1} if rng.random() < share else {})}
            for _ in range(400)
        ]
    commit(project, "all.jsonl", events)
    found = drift_of(project, time_field="at")
    assert found == ["x was in 93 % of events the day before 2026-03-04, and then in 48 %"]
