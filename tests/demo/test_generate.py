"""What the generator puts into the landing folder is, to the line, what it says it put there."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest

from demo.generate import Misuse, generate
from tests.demo.naive_reader import (
    TYPES,
    Event,
    Reading,
    content_of,
    decode,
    read,
    reduce_bookings,
    reduce_carts,
)

ROOT = Path(__file__).parents[2]


def told(truth: Path, name: str, key: str) -> dict[str, Event]:
    """Return the lines of a file of the truth."""
    lines = [json.loads(line) for line in (truth / f"{name}.jsonl").read_bytes().splitlines()]
    by_key = {line[key]: line for line in lines}
    assert len(by_key) == len(lines)
    return by_key


def instants(flights: dict[str, Event]) -> dict[str, Event]:
    """Return flights with their departure as an instant, however it is written."""
    return {
        id_: flight | {"departs_at": datetime.fromisoformat(flight["departs_at"])}
        for id_, flight in flights.items()
    }


class Folders(TypedDict):
    """Where the generator writes."""

    landing: Path
    truth: Path


@dataclass(frozen=True)
class World:
    """A generated history, and what the naive reader finds in it."""

    folder: Path
    summary: dict[str, Any]
    bookings: Reading
    cart_events: Reading

    @property
    def truth(self) -> Path:
        """Where the truth is."""
        return self.folder / "truth"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a history of 40,000 events."""
    folder = tmp_path_factory.mktemp("world")
    summary = generate(events=40_000, seed=11, landing=folder / "landing", truth=folder / "truth")
    return World(
        folder, summary, read(folder / "landing", "bookings"), read(folder / "landing", "cart_events")
    )


def test_the_truth_of_bookings_is_what_the_events_say(world: World) -> None:
    """Every booking and every flight, field by field, and no seat held twice at any time."""
    bookings, flights = reduce_bookings(list(world.bookings.events.values()))
    assert bookings == told(world.truth, "bookings", "booking_id")
    assert instants(flights) == instants(told(world.truth, "flights", "flight_id"))
    assert any(flight["seats_taken"] == flight["capacity"] > 20 for flight in flights.values())


def test_the_truth_of_carts_is_what_the_events_say(world: World) -> None:
    """Every cart, item by item and cent by cent."""
    carts = reduce_carts(list(world.cart_events.events.values()))
    assert carts == told(world.truth, "carts", "cart_id")
    assert {cart["status"] for cart in carts.values()} == {"open", "checked_out", "abandoned"}


def test_the_summary_counts_every_line(world: World) -> None:
    """True events, repetitions, malformed and empty lines, and files, as a reader finds them."""
    for stream, reading in (("bookings", world.bookings), ("cart_events", world.cart_events)):
        counts = world.summary["streams"][stream]
        assert counts["true_events"] == len(reading.events) == 20_000
        assert counts["duplicate_lines"] == reading.duplicates > 0
        assert counts["malformed_lines"] == reading.malformed == sum(counts["malformed"].values())
        assert counts["lines"] == len(reading.events) + reading.duplicates + reading.malformed
        assert counts["empty_lines"] == reading.empty > 0
        assert counts["files"] == reading.files
        assert counts["delivery"]["reserialised"] == reading.reserialised > 0
        assert counts["event_types"] == Counter(event["event_type"] for event in reading.events.values())
        assert (
            counts["huge_payloads"]
            == sum(len(str(event)) > 1_000_000 for event in reading.events.values())
            > 0
        )
        assert min(counts["malformed"].values()) >= 3
    assert world.summary == json.loads((world.truth / "summary.json").read_text())


def test_events_of_the_coming_version_are_told_apart(world: World) -> None:
    """With a decoder of version 3 the bookings are those of today and these, and still no seat is held twice."""
    lines = [json.loads(line) for line in (world.truth / "undecodable_today.jsonl").read_bytes().splitlines()]
    events = [line["event"] for line in lines]
    assert sorted(events, key=str) == sorted(world.bookings.coming, key=str)
    assert len(events) == world.summary["streams"]["bookings"]["malformed"]["schema_version_3"] >= 3
    assert all(event["event_type"] == "booking_confirmed" for event in events)

    today, _ = reduce_bookings(list(world.bookings.events.values()))
    later, _ = reduce_bookings([*world.bookings.events.values(), *events])
    new = {event["booking_id"] for event in events}
    assert new.isdisjoint(today)
    assert {id_: booking for id_, booking in later.items() if id_ not in new} == today
    touched = {
        (event.get("flight_id"), event.get("seat"))
        for event in world.bookings.events.values()
        if "booking_id" in event
    }
    assert touched.isdisjoint((event["flight_id"], event["seat"]) for event in events)


def test_a_booking_stream_has_all_that_the_contract_names(world: World) -> None:
    """Each kind of event, each reason to refuse, both versions on each full day, several offsets."""
    events = list(world.bookings.events.values())
    refused = [event for event in events if event["event_type"] == "command_refused"]
    assert {event["event_type"] for event in events} == {name for name in TYPES if "cart" not in name} - {
        "item_added",
        "item_removed",
        "quantity_changed",
    }
    assert {event["reason"] for event in refused} == {
        "seat_taken",
        "no_such_seat",
        "no_such_flight",
        "no_such_booking",
        "already_cancelled",
        "already_checked_in",
        "departed",
    }
    assert {event["command"] for event in refused} == {
        "book",
        "change_seat",
        "cancel",
        "reschedule",
        "check_in",
    }
    versions = Counter((event["occurred_at"][:10], event["schema_version"]) for event in events)
    assert all(versions[f"2013-03-{day:02d}", version] > 0 for day in range(1, 15) for version in (1, 2))
    assert {event["occurred_at"][-6:] for event in events} >= {"-05:00", "-04:00", "+01:00", "+05:30"}
    assert any(event["occurred_at"].endswith("Z") for event in events)


def test_events_arrive_out_of_order_and_some_of_them_late(world: World) -> None:
    """Neither the counters nor the clock give the order of arrival."""
    arrived = [world.bookings.events[id_] for id_ in world.bookings.in_order_of_arrival]
    by_sequence = sorted(arrived, key=lambda event: event["sequence"])
    clocks = [datetime.fromisoformat(event["occurred_at"]) for event in by_sequence]
    assert any(later < earlier for earlier, later in itertools.pairwise(clocks))
    assert world.summary["streams"]["bookings"]["delivery"]["late"] > 50
    late = 0
    for path in (world.folder / "landing/bookings").rglob("*.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            event = decode(line, "bookings")
            if event:
                happened = datetime.fromisoformat(event["occurred_at"])
                late += happened < datetime.fromisoformat(f"{path.parent.name}T00:00:00+00:00") - timedelta(
                    hours=1
                )
    assert late > 10


def test_files_are_of_every_kind_and_not_too_many(world: World) -> None:
    """Some tens of files, compressed and not, with both line ends."""
    for stream in ("bookings", "cart_events"):
        files = [path for path in (world.folder / "landing" / stream).rglob("*") if path.is_file()]
        assert len(files) < 60
        assert {"".join(path.suffixes) for path in files} == {".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst"}
        assert all(
            re.fullmatch(r"[a-z]+-[a-z]+-\d\d\.(jsonl|ndjson)(\.gz|\.zst)?", path.name) for path in files
        )
        ends = Counter(content_of(path).endswith(b"\r\n") for path in files)
        assert ends[False] > ends[True] > 0


def run(folder: Path, *options: str, hash_seed: int = 0) -> None:
    """Run the command line in a process of its own."""
    subprocess.run(
        [
            *(sys.executable, "-m", "demo.generate", *options),
            *("--landing", str(folder / "landing"), "--truth", str(folder / "truth")),
        ],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder that aren't hidden, by their path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """In every file, compressed ones and the truth too; and another seed gives others."""
    run(tmp_path / "a", "--events", "6000", "--seed", "5", hash_seed=1)
    run(tmp_path / "b", "--events", "6000", "--seed", "5", hash_seed=2)
    run(tmp_path / "c", "--events", "6000", "--seed", "6")
    first, second, other = (files_of(tmp_path / name) for name in "abc")
    assert first == second
    assert any(name.endswith(".gz") for name in first)
    assert first["truth/bookings.jsonl"] != other["truth/bookings.jsonl"]


def test_waves_together_are_what_one_go_writes(tmp_path: Path) -> None:
    """The later waves bring events that are late, and repetitions, of the first."""
    events, seed = 20_000, 5
    generate(events=events, seed=seed, landing=tmp_path / "whole", truth=tmp_path / "truth of the whole")
    landing, truth = tmp_path / "landing", tmp_path / "truth"
    before: set[str] = set()
    readings = []
    for wave in (1, 2, 3):
        summary = generate(events=events, seed=seed, landing=landing, truth=truth, waves=3, wave=wave)
        now = set(files_of(landing))
        assert now > before
        assert len(now) == sum(
            stream["waves"][str(done)]["files"]
            for stream in summary["streams"].values()
            for done in range(1, wave + 1)
        )
        before = now
        readings.append(read(landing, "bookings"))
    assert files_of(landing) == files_of(tmp_path / "whole")
    assert (truth / "bookings.jsonl").read_bytes() == (
        tmp_path / "truth of the whole/bookings.jsonl"
    ).read_bytes()
    first, second, _ = readings
    assert first.duplicates == summary["streams"]["bookings"]["waves"]["1"]["duplicate_lines"]
    newest = max(event["sequence"] for event in first.events.values())
    assert any(event["sequence"] < newest for id_, event in second.events.items() if id_ not in first.events)
    assert len(second.events) - len(first.events) < summary["streams"]["bookings"]["waves"]["2"]["lines"]


def test_a_run_that_was_stopped_can_be_run_again(tmp_path: Path) -> None:
    """What is there already stays untouched; what is missing is written."""
    folders = Folders(landing=tmp_path / "landing", truth=tmp_path / "truth")
    generate(events=2_000, seed=5, **folders)
    whole = files_of(tmp_path)
    files = sorted((tmp_path / "landing").rglob("*.jsonl"))
    files[0].unlink()
    stays = files[1].stat().st_mtime_ns
    generate(events=2_000, seed=5, **folders)
    assert files_of(tmp_path) == whole
    assert files[1].stat().st_mtime_ns == stays


def test_two_histories_are_never_mixed(tmp_path: Path) -> None:
    """Other arguments, or other files in the way, are refused and nothing is replaced."""
    folders = Folders(landing=tmp_path / "landing", truth=tmp_path / "truth")
    generate(events=2_000, seed=5, **folders)
    whole = files_of(tmp_path)
    with pytest.raises(Misuse, match="another history"):
        generate(events=2_000, seed=6, **folders)
    assert files_of(tmp_path) == whole
    with pytest.raises(Misuse, match="another history"):
        generate(events=2_000, seed=6, landing=tmp_path / "landing", truth=tmp_path / "other")
    assert files_of(tmp_path) == whole
    (tmp_path / "landing/.history").unlink()
    with pytest.raises(FileExistsError, match="something else"):
        generate(events=2_000, seed=6, landing=tmp_path / "landing", truth=tmp_path / "other")
    now = files_of(tmp_path / "landing")
    assert {
        name: now[name.removeprefix("landing/")] for name in whole if name.startswith("landing/book")
    } == {name: content for name, content in whole.items() if name.startswith("landing/book")}


@pytest.mark.parametrize(
    "wrong", [{"events": 10}, {"events": 10**9}, {"waves": 0}, {"waves": 2, "wave": 3}, {"wave": 0}], ids=str
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    """Before anything is written."""
    numbers: dict[str, Any] = {"events": 2_000, "seed": 1} | wrong
    with pytest.raises(Misuse):
        generate(**numbers, landing=tmp_path / "landing", truth=tmp_path / "truth")
    assert not list(tmp_path.iterdir())


def peak_kb(folder: Path, events: int) -> int:
    """Make a history, and return the peak memory of the larger of the two processes that make it."""
    script = (
        "import resource, sys; from demo.generate import main; assert main(sys.argv[1:]) == 0; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-c", script, "--events", str(events)),
            *("--landing", str(folder / "landing"), "--truth", str(folder / "truth")),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(ended.stdout.splitlines()[-1])


def test_memory_does_not_grow_with_the_events(tmp_path: Path) -> None:
    """300,000 events take hardly more memory than 30,000, and less than 200 MB."""
    few, many = peak_kb(tmp_path / "few", 30_000), peak_kb(tmp_path / "many", 300_000)
    assert many - few < 25_000
    assert many < 200_000
