"""The delivery loses nothing, whatever it does to lines, and keeps files to their size."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING

import demo.delivery
from demo.delivery import Delivery, Waves
from demo.history import SECOND_US
from demo.landing import LandingFolder
from demo.outlet import Line

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

from tests.demo.naive_reader import content_of

START_US = 1_362_114_000 * SECOND_US  # 1 March 2013 in New York


def test_a_file_that_is_full_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers go up by one, each file is as large as allowed and hardly more, and every line is there."""
    monkeypatch.setattr(demo.delivery, "MAX_FILE_BYTES", 50_000)
    delivery = Delivery(LandingFolder(tmp_path), ["east"], random.Random(1), Waves(date(2013, 3, 1), 1))
    sent = [
        f'{{"event_id":"{number:05d}","event_type":"cart_opened","cart_version":1}}'.encode()
        for number in range(5_000)
    ]
    for number, line in enumerate(sent):
        delivery.accept(Line(line), "cart_opened", START_US + number * SECOND_US, 0)
    counts = delivery.finish().summary()
    files = sorted((tmp_path / "2013-03-01").iterdir())
    assert [path.name[:8] for path in files] == [f"east-{number:02d}." for number in range(len(files))]
    assert len(files) > 5
    sizes = [len(content_of(path)) for path in files]
    assert max(sizes) < 50_200
    assert min(sizes[:-1]) > 50_000
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    lines = Counter(line.rstrip(b"\r") for path in everything for line in content_of(path).split(b"\n"))
    assert all(lines[line] >= 1 for line in sent)
    assert counts["bytes"] == sum(len(content_of(path)) for path in everything)


def test_waves_cut_the_days_into_parts_of_about_the_same_length() -> None:
    """Days before and after belong to the first and the last wave."""
    first = date(2013, 3, 1)
    waves = Waves(first, 14, 3)
    of_days = [waves.of(first + timedelta(days=day)) for day in range(-1, 20)]
    assert of_days == sorted(of_days)
    assert Counter(of_days[1:15]) == {1: 5, 2: 5, 3: 4}
