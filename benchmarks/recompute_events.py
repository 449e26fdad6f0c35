"""Large archives of the demo's two streams, in seconds: one simulated history, told again week after week by other customers.

`python -m benchmarks.recompute_events FOLDER --events 10000000` makes one; `--more 0.01` adds so many new events to it, late ones among them.
What doesn't live here: what is measured with them (`recompute_figures`), and what an event says (`demo`).

A replica is the simulated history with flights, bookings, carts and customers of its own, that begins a week after the replica before. A week's
file holds the first week of its newest replica, the second of the one before, and so on: like real ones, new events go on with what is
there. Replicas differ in digits at known places of the text alone, so that a week is made by copying a template and writing into it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import itertools
import json
import re
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from benchmarks.measuring import event_archive, write_config
from demo.generate import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

STREAMS = ("bookings", "cart_events")
SEED = 7
SIMULATED_EVENTS = 200_000
FIRST_REPLICA = 1000  # four digits, of which the first isn't 0: a number in JSON must not begin with one
WEEK_DAYS = 7
SEQUENCE_DIGITS = 7
LATE_ONE_IN = 5_000
LATE_DELIVERIES = 10
"""Of `LATE_ONE_IN` events one comes with the first new ones however old it is by then, another with the second ones, and so on."""
PADDED_ONE_IN = 100
PADDING_BYTES = 7_500  # 10,000 characters

_MARK = b"\x01\x02\x03\x04"  # where the replica's number goes
_DATE = re.compile(rb"20\d\d-\d\d-\d\d")
_DATE_TEXT = 10
_ASCII_0 = 48
_MARKED = (
    (re.compile(rb'("event_id"\s*:\s*")[0-9a-f]{4}(?=[0-9a-f]{4}-)'), rb"\1" + _MARK),
    (re.compile(rb'"([BKCP])(\d{5,})"'), rb'"\1' + _MARK + rb'\2"'),
    (re.compile(rb'"([A-Z0-9]{2}\d{1,4})-([A-Z]{3})-(20\d\d-\d\d-\d\d)"'), rb'"\1.' + _MARK + rb'-\2-\3"'),
)
_SEQUENCE = re.compile(rb'("sequence"\s*:\s*)([1-9]\d*)(?=\s*[,}])')
_PADDED_TYPES = (b'"item_added"', b'"cart_opened"')


@dataclass(frozen=True)
class Template:
    """A stream's simulated history as text with places to fill in; lines in the order in which a week delivers them.

    Attributes:
        text: All lines, each with its line feed.
        starts: Where each line begins, and last where the text ends.
        weeks: In which week of its replica each line is delivered.
        marks: Where a replica's number goes, and in which line that is.
        dates: Where a date is.
        date_lines: In which line that is.
        days: What day it is in replica 0, counted from 1970.
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    weeks: NDArray[np.int64]
    marks: NDArray[np.int64]
    mark_lines: NDArray[np.int64]
    dates: NDArray[np.int64]
    date_lines: NDArray[np.int64]
    days: NDArray[np.int64]

    def week(self, number: int) -> NDArray[np.uint8]:
        """All text of a week, also of replicas before the first."""
        replicas = number - self.weeks
        text = self.text.copy()
        labels = FIRST_REPLICA + replicas[self.mark_lines]
        for digit in range(4):
            text[self.marks + digit] = labels // 10 ** (3 - digit) % 10 + _ASCII_0
        days = self.days + WEEK_DAYS * replicas[self.date_lines]
        first = int(days.min(initial=0))
        names = np.arange(first, int(days.max(initial=0)) + 1).astype("datetime64[D]").astype("S10")
        table = names.view(np.uint8).reshape(-1, _DATE_TEXT)
        chosen = table[days - first]
        for place in range(_DATE_TEXT):
            text[self.dates + place] = chosen[:, place]
        return text


@dataclass(frozen=True)
class Made:
    """What a folder holds, kept in its `history.json`.

    Attributes:
        events: How many events of each stream have been delivered, late ones that are still on their way included.
        is_padded: Whether one in a hundred carts' events is 10 KB.
        additions: How often events were added.
    """

    events: int
    is_padded: bool
    additions: int = 0

    @classmethod
    def read(cls, folder: Path) -> Made:
        """What `write` wrote."""
        return cls(**json.loads((folder / "history.json").read_text()))

    def write(self, folder: Path) -> None:
        """For the next `add_events`."""
        (folder / "history.json").write_text(json.dumps(self.__dict__) + "\n")


def make_archive(
    folder: Path, events: int, *, is_padded: bool = False, simulated: int = SIMULATED_EVENTS
) -> Path:
    """Makes `folder` with a configuration, landing folders and an archive of some `events` events, half of each stream.

    Args:
        folder: A new folder.
        events: Of both streams together, duplicates and malformed ones included; 0.2 % of them are held back for `add_events`.
        is_padded: Make one in a hundred carts' events 10 KB long.
        simulated: Number of events that `demo.generate` makes, to be told again and again.

    Returns:
        The configuration file.
    """
    write_config(folder, *STREAMS)
    (folder / "late").mkdir()
    generate(events=simulated, seed=SEED, landing=folder / "simulated", truth=folder / "truth")
    shutil.rmtree(folder / "truth")
    made = Made(events // 2, is_padded)
    with ProcessPoolExecutor(len(STREAMS)) as processes:
        list(processes.map(_write_first, [folder] * 2, [made] * 2, STREAMS))
    made.write(folder)
    event_archive("ingest", "--settled", cwd=folder)
    return folder / "event_archive.yaml"


def add_events(folder: Path, share: float = 0.01) -> int:
    """Adds events that come after those that a folder has, and late ones from all of its history, in a commit each per stream.

    Args:
        folder: Made by `make_archive`.
        share: How many, of what is there; late ones, 0.02 % of what there was at first, come on top.

    Returns:
        Number of events of both streams that came.
    """
    made = Made.read(folder)
    now = Made(made.events + round(made.events * share), made.is_padded, made.additions + 1)
    with ProcessPoolExecutor(len(STREAMS)) as processes:
        list(processes.map(_write_more, [folder] * 2, [made] * 2, [now] * 2, STREAMS))
    event_archive("ingest", "--settled", cwd=folder)
    added = 2 * (now.events - made.events)
    for stream in STREAMS:
        late = folder / "late" / f"{stream}-{made.additions}.jsonl"
        if late.exists():
            added += late.read_bytes().count(b"\n")
            late.rename(folder / "landing" / stream / f"late-{made.additions:03d}.jsonl")
    event_archive("ingest", "--settled", cwd=folder)
    now.write(folder)
    return added


def _write_first(folder: Path, made: Made, stream: str) -> None:
    with contextlib.ExitStack() as files:
        late = [
            files.enter_context((folder / "late" / f"{stream}-{number}.jsonl").open("wb"))
            for number in range(LATE_DELIVERIES)
        ]
        for week, first, lines in _weeks(folder, made, stream, 0, made.events):
            kept = []
            begin = 0
            for number in range(-first % LATE_ONE_IN, len(lines), LATE_ONE_IN):
                kept += lines[begin:number]
                for delivery, line in enumerate(lines[number : number + LATE_DELIVERIES]):
                    late[delivery].write(line)
                begin = number + LATE_DELIVERIES
            kept += lines[begin:]
            (folder / "landing" / stream / f"week-{week:04d}.jsonl").write_bytes(b"".join(kept))


def _write_more(folder: Path, before: Made, now: Made, stream: str) -> None:
    with (folder / "landing" / stream / f"more-{now.additions:03d}.jsonl").open("wb") as file:
        for _, _, lines in _weeks(folder, now, stream, before.events, now.events):
            file.writelines(lines)


def _weeks(
    folder: Path, made: Made, stream: str, begin: int, end: int
) -> Iterator[tuple[int, int, list[memoryview]]]:
    """Of each week the lines that are numbered from `begin` to before `end`: its number, that of the first line, and the lines."""
    template = _template(folder / "simulated" / stream, pads=made.is_padded and stream == "cart_events")
    first = 0
    for week in itertools.count():
        is_there = template.weeks <= week
        count = int(is_there.sum())
        if first + count > begin:
            chosen = np.flatnonzero(is_there)[max(begin - first, 0) : end - first]
            text = memoryview(template.week(week))  # type: ignore[arg-type] # an array is a buffer
            bounds = zip(template.starts[chosen].tolist(), template.starts[chosen + 1].tolist(), strict=True)
            yield week, max(begin, first), [text[start:stop] for start, stop in bounds]
        first += count
        if first >= end:
            return


def _template(folder: Path, *, pads: bool) -> Template:
    lines = []
    days = []
    for file in sorted(folder.glob("*/*")):
        found = [line.strip() for line in _content(file).split(b"\n") if line.strip()]
        lines += found
        days += [date.fromisoformat(file.parent.name).toordinal()] * len(found)
    since = np.array(days) - min(days)
    weeks = since // WEEK_DAYS
    order = np.lexsort((weeks, since % WEEK_DAYS))  # the days of a week one after the other
    numbers = np.random.default_rng(SEED)
    marked = [_marked(lines[line], numbers, pads=pads) for line in order]
    text = b"".join(marked)
    lengths = np.array([len(line) for line in marked])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    marks = np.array([match.start() for match in re.finditer(re.escape(_MARK), text)])
    dates = [(match.start(), day) for match in _DATE.finditer(text) if (day := _day(match[0])) is not None]
    places = np.array([place for place, _ in dates])
    return Template(
        text=np.frombuffer(text, np.uint8),
        starts=starts,
        weeks=weeks[order],
        marks=marks,
        mark_lines=np.searchsorted(starts, marks, side="right") - 1,
        dates=places,
        date_lines=np.searchsorted(starts, places, side="right") - 1,
        days=np.array([day for _, day in dates]),
    )


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".gz":
        return gzip.decompress(content)
    if file.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(content) as reader:
            return bytes(reader.read())
    return content


def _marked(line: bytes, numbers: np.random.Generator, *, pads: bool) -> bytes:
    for pattern, replacement in _MARKED:
        line = pattern.sub(replacement, line)
    line = _SEQUENCE.sub(lambda match: match[1] + _MARK + match[2].rjust(SEQUENCE_DIGITS, b"0"), line)
    if (
        pads
        and line.endswith(b"}")
        and any(kind in line for kind in _PADDED_TYPES)
        and numbers.random() < 2 / PADDED_ONE_IN
    ):
        line = line[:-1] + b',"note":"' + base64.b64encode(numbers.bytes(PADDING_BYTES)) + b'"}'
    return line + b"\n"


def _day(text: bytes) -> int | None:
    try:
        return date.fromisoformat(text.decode()).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:  # one of the malformed
        return None


def main() -> None:
    """Makes an archive, or adds to one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=10_000_000, help="of both streams together")
    parser.add_argument("--large", action="store_true", help="one in a hundred carts' events is 10 KB")
    parser.add_argument(
        "--more", type=float, metavar="SHARE", help="add so many new events to an archive that is there"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.more is not None:
        print(f"{add_events(arguments.folder, arguments.more):,} events", end="")
    else:
        made = make_archive(arguments.folder, arguments.events, is_padded=arguments.large)
        print(f"{arguments.events:,} events: {made}", end="")
    print(f" in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
