"""The way from a service to where its consumers read, as unreliable as real ones: it repeats, delays, disorders and breaks lines.

It never loses an event, and it writes down what it did, so that consumers can be checked against it. What events say isn't known here,
nor whether lines go into files or a topic (`outlet.py`): the same history takes the same way to both.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from demo.history import DAY_US, HOUR_US, SECOND_US
from demo.malformed import KINDS, break_line
from demo.outlet import Line

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from datetime import date

    from demo.outlet import Outlet, Output

MAX_FILE_BYTES = 64_000_000
HUGE_BYTES = 1_000_000

# What can happen to an event's line, and how often.
FATES = {
    "disordered": 0.03,  # overtaken by some minutes' events
    "late": 0.008,  # hours or days
    "repeated": 0.015,
    "reserialised": 0.002,  # repeated in other bytes: same event_id, other order of keys, other white space
    "malformed": 0.004,  # followed by a broken copy
    "empty_line": 0.001,
}
UNDISTURBED = 1.0 - sum(FATES.values())

# Handed round, so that even a small run has each.
SUFFIXES = (*(".jsonl",) * 7, ".ndjson", *(".jsonl.gz",) * 2, *(".jsonl.zst",) * 2)
LINE_ENDS = (*(b"\n",) * 8, b"\r\n")


@dataclass(frozen=True, slots=True)
class Waves:
    """Cuts the days of a history into waves of about the same number of days; what comes after the last day is the last wave's."""

    first_day: date
    days: int
    count: int = 1

    def of(self, day: date) -> int:
        """Return the wave, from 1, to which this day's files belong."""
        since = min(max((day - self.first_day).days, 0), self.days - 1)
        return 1 + since * self.count // self.days


@dataclass(slots=True)
class Tally:
    """What a stream was given, and in which lines it was put."""

    event_types: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    huge_payloads: int = 0
    lines_by_wave: dict[int, Counter[str]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the counts by plain names: `lines` = `true_events` + `duplicate_lines` + `malformed_lines`."""
        total: Counter[str] = sum(self.lines_by_wave.values(), Counter())
        return {
            **_line_counts(total),
            "malformed": {kind: total[kind] for kind in sorted(total) if kind not in _NOT_MALFORMED},
            "huge_payloads": self.huge_payloads,
            "event_types": dict(sorted(self.event_types.items())),
            "delivery": dict(sorted(self.fates.items())),
            "waves": {str(wave): _line_counts(counts) for wave, counts in sorted(self.lines_by_wave.items())},
        }


# Keys of the counts of lines; each other key is a kind of malformed line.
_NOT_MALFORMED = {"true_events", "duplicate_lines", "empty_lines", "files", "bytes"}


def _line_counts(counts: Counter[str]) -> dict[str, int]:
    malformed = sum(count for kind, count in counts.items() if kind not in _NOT_MALFORMED)
    return {
        "lines": counts["true_events"] + counts["duplicate_lines"] + malformed,
        "true_events": counts["true_events"],
        "duplicate_lines": counts["duplicate_lines"],
        "malformed_lines": malformed,
        "empty_lines": counts["empty_lines"],
        "files": counts["files"],
        "bytes": counts["bytes"],
    }


class _File:
    """What a server writes during a day: cut, ended and counted as a file, wherever its lines go."""

    def __init__(self, output: Output | None, day: int, end: bytes) -> None:
        self.day = day
        self.bytes = 0
        self.counts: Counter[str] = Counter()
        self._output = output
        self._end = end

    def write(self, line: Line, kind: str, at_us: int) -> None:
        end = self._end if line.text else b"\n"  # with a CR before it, it would be no empty line
        self.counts[kind] += 1
        self.bytes += len(line.text) + len(end)
        if self._output:
            self._output.write(line, end, at_us)

    def close(self) -> None:
        if self._output:
            self._output.close()


class Delivery:
    """Takes a stream's events in the order of their decisions and brings them to the stream's outlet.

    Args:
        outlet: Where the lines go.
        servers: Names of the servers that write; each has its own files.
        rng: Decides what happens to each line.
        waves: How the history is cut.
        is_wanted: Tells of each wave whether its lines go to the outlet; all are counted.
    """

    def __init__(
        self,
        outlet: Outlet,
        servers: Sequence[str],
        rng: random.Random,
        waves: Waves,
        is_wanted: Callable[[int], bool] = lambda _wave: True,
    ) -> None:
        self.tally = Tally()
        self._outlet = outlet
        self._servers = servers
        self._rng = rng
        self._waves = waves
        self._is_wanted = is_wanted
        self._files: list[_File | None] = [None] * len(servers)
        self._numbers: Counter[tuple[int, int]] = Counter()
        self._under_way: list[tuple[int, int, int, Line, str]] = []  # due, tie-breaker, server, line, kind
        self._ties = itertools.count()
        self._malformed_kinds = itertools.cycle(rng.sample(list(KINDS), len(KINDS)))
        self._suffixes = itertools.cycle(rng.sample(SUFFIXES, len(SUFFIXES)))
        self._line_ends = itertools.cycle(rng.sample(LINE_ENDS, len(LINE_ENDS)))
        self._fates = list(FATES)
        self._fate_weights = list(itertools.accumulate(FATES.values()))

    def accept(self, line: Line, event_type: str, at_us: int, server: int) -> None:
        """Bring one event of the stream on its way.

        Args:
            line: The event.
            event_type: Its type, to be counted.
            at_us: Now, in microseconds since 1970; never before an earlier call's.
            server: Which of the servers writes it.
        """
        self._bring_what_is_due(at_us)
        self.tally.event_types[event_type] += 1
        if len(line.text) > HUGE_BYTES:
            self.tally.huge_payloads += 1
        if self._rng.random() < UNDISTURBED:
            self._write(line, at_us, server, "true_events")
        else:
            self._disturb(line, at_us, server)

    def accept_undecodable(self, line: Line, kind: str, at_us: int, server: int) -> None:
        """Bring an event on its way that today's contract calls malformed, of this kind; it comes once."""
        self._bring_what_is_due(at_us)
        self._write(line, at_us, server, kind)

    def confirm(self) -> None:
        """Return when the services may forget what is not under way any more."""
        self._outlet.confirm()

    def finish(self) -> Tally:
        """Bring all that is still under way, show the last files, and return the counts."""
        while self._under_way:
            self._bring_what_is_due(self._under_way[0][0])
        for server in range(len(self._servers)):
            self._close(server)
        self._outlet.finish()
        return self.tally

    def _disturb(self, line: Line, at_us: int, server: int) -> None:
        rng = self._rng
        (fate,) = rng.choices(self._fates, cum_weights=self._fate_weights)
        self.tally.fates[fate] += 1
        if fate == "disordered":
            self._send(line, at_us + int(rng.expovariate(1 / (60 * SECOND_US))), server, "true_events")
            return
        if fate == "late":
            self._send(
                line, at_us + HOUR_US + int(rng.expovariate(1 / (10 * HOUR_US))), server, "true_events"
            )
            return
        self._write(line, at_us, server, "true_events")
        if fate == "empty_line":
            self._write(Line(b""), at_us, server, "empty_lines")
        elif fate == "malformed":
            kind = next(self._malformed_kinds)
            self._write(_broken(kind, line, rng), at_us, server, kind)
        else:
            copy = line if fate == "repeated" else line._replace(text=_reserialise(line.text, rng))
            # Most repetitions follow within a minute; some come when a server is restored days later.
            mean_us = rng.choice((20 * SECOND_US, 20 * SECOND_US, 20 * SECOND_US, 2 * DAY_US))
            self._send(
                copy,
                at_us + int(rng.expovariate(1 / mean_us)),
                rng.randrange(len(self._servers)),
                "duplicate_lines",
            )

    def _send(self, line: Line, due_us: int, server: int, kind: str) -> None:
        heapq.heappush(self._under_way, (due_us, next(self._ties), server, line, kind))

    def _bring_what_is_due(self, now_us: int) -> None:
        while self._under_way and self._under_way[0][0] <= now_us:
            due_us, _, server, line, kind = heapq.heappop(self._under_way)
            self._write(line, due_us, server, kind)

    def _write(self, line: Line, at_us: int, server: int, kind: str) -> None:
        file = self._files[server]
        day = at_us // DAY_US
        if file is None or file.day != day or file.bytes > MAX_FILE_BYTES:
            self._close(server)
            file = self._files[server] = self._open(server, day)
        file.write(line, kind, at_us)

    def _open(self, server: int, day: int) -> _File:
        date_ = datetime.fromtimestamp(day * 86_400, UTC).date()
        number = self._numbers[server, day]
        self._numbers[server, day] += 1
        name = f"{self._servers[server]}-{number:02d}{next(self._suffixes)}"
        path = PurePosixPath(date_.isoformat(), name)
        is_wanted = self._is_wanted(self._waves.of(date_))
        output = self._outlet.open(self._servers[server], path) if is_wanted else None
        return _File(output, day, next(self._line_ends))

    def _close(self, server: int) -> None:
        file, self._files[server] = self._files[server], None
        if file is None:
            return
        file.close()
        wave = self._waves.of(datetime.fromtimestamp(file.day * 86_400, UTC).date())
        counts = self.tally.lines_by_wave.setdefault(wave, Counter())
        counts.update(file.counts)
        counts.update(files=1, bytes=file.bytes)


def _broken(kind: str, line: Line, rng: random.Random) -> Line:
    """Break a line; it keeps its key only if it still says whom it is about."""
    text = break_line(kind, line.text, rng)
    return Line(text, line.key if line.key and line.key in text else None)


def _reserialise(line: bytes, rng: random.Random) -> bytes:
    items = list(json.loads(line).items())
    rng.shuffle(items)
    return json.dumps(dict(items), separators=(" , ", ": "), ensure_ascii=True).encode()
