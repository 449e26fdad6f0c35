"""The clock of a simulated history: which days it spans, and how busy each hour is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from demo.schedule import NEW_YORK

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US

# A flight is sold during this many days before its own.
DAYS_ON_SALE = 5

# What a flight costs in events over its life: its bookings, their changes and check-ins, refusals.
EVENTS_PER_FLIGHT = 240
BUSIEST_DAY_FLIGHTS = 120
FEWEST_DAYS = 14
MOST_DAYS = 355
DAYS_FROM_MARCH = 300  # the longest history that can begin in March

# How many commands come in each hour of a local day, relatively.
BUSYNESS = (3, 2, 1, 1, 2, 4, 7, 9, 11, 12, 12, 12, 13, 12, 11, 11, 12, 13, 14, 14, 13, 11, 8, 5)

INDIA = timezone(timedelta(hours=5, minutes=30))
PARIS = timezone(timedelta(hours=1))

# In what time zones the servers write, and how often: their own, and those of partners.
_ZONES = ((NEW_YORK, PARIS, INDIA), (UTC, PARIS, INDIA))
_ZONE_WEIGHTS = (0.96, 0.03, 0.01)
WITHOUT_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class History:
    """A span of whole days of 2013 in which a number of events happens.

    Small ones begin on 1 March, so that the change to daylight-saving time (10 March) is among their days.
    """

    events: int
    first_day: date
    days: int
    flights_per_day: int

    @classmethod
    def of_events(cls, events: int) -> History:
        """Choose days and flights for this number of events per stream, so that planes get meaningfully full."""
        days = math.ceil(events / (EVENTS_PER_FLIGHT * BUSIEST_DAY_FLIGHTS))
        days = min(max(days, FEWEST_DAYS), MOST_DAYS)
        first_day = date(2013, 3, 1) if days <= DAYS_FROM_MARCH else date(2013, 1, 1)
        return cls(events, first_day, days, max(2, round(events / days / EVENTS_PER_FLIGHT)))

    def hours(self) -> Iterator[tuple[int, int]]:
        """Yield each hour's start in microseconds since 1970, and how many events are to have happened by its end."""
        start = datetime(self.first_day.year, self.first_day.month, self.first_day.day, tzinfo=NEW_YORK)
        start_us = int(start.timestamp()) * SECOND_US
        whole = sum(BUSYNESS) * self.days
        passed = 0
        for hour in range(24 * self.days):
            passed += BUSYNESS[hour % 24]
            yield start_us + hour * HOUR_US, self.events * passed // whole


class Clock:
    """Gives the moment as servers write it: in different offsets, sometimes without a fraction, none quite right."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def read(self, at_us: int, server: int) -> datetime:
        """Return the moment on this server's clock.

        The first server keeps New York's time, the others UTC; partners send their own.
        """
        zone = self._rng.choices(_ZONES[server], weights=_ZONE_WEIGHTS)[0]
        # None is quite right: they are 1.4 seconds apart.
        moment = datetime.fromtimestamp(at_us / SECOND_US + (server * 2 - 1) * 0.7, zone)
        return moment.replace(microsecond=0) if self._rng.random() < WITHOUT_FRACTION else moment
