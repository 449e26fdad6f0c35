"""What the payloads of a stream say is counted exactly, whatever they are."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import UsageError
from event_archive.schema import batches
from event_archive.schema.scan import Asked
from event_archive.schema.stream import stream_schema
from tests.schema.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from event_archive.schema.model import StreamSchema
    from tests.conftest import Project


def archived(project: Project, name: str, values: Sequence[bytes | dict[str, Any]]) -> list[bytes]:
    """Archives events in a commit of their own; returns their bytes."""
    lines = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    project.write(name, b"".join(line + b"\n" for line in lines))
    project.ingest(settled=True)
    return lines


def schema_of(project: Project, **asked: Any) -> StreamSchema:
    """The schema of the project's stream."""
    return stream_schema(project.config(), "events", Asked(**asked))


def assert_counted(found: StreamSchema, values: Sequence[bytes]) -> None:
    """Every path and kind is counted as Python's own parser counts it."""
    truth = counted(values)
    assert found.json_events == truth.states["json"]
    assert found.not_json == truth.states["not_json"]
    assert found.not_utf8 == truth.states["not_utf8"]
    assert {facts.path: facts.events for facts in found.paths} == dict(truth.paths)
    kinds = {(facts.path, kind): events for facts in found.paths for kind, events in facts.kinds.items()}
    assert kinds == dict(truth.kinds)


def test_types_have_shares_and_an_event_counts_once_for_a_path(project: Project) -> None:
    """Of 50 prices one is a string; three elements of a list are one event; a format is one that all strings have."""
    events: list[dict[str, Any]] = [
        {
            "price": 1.5,
            "items": [{"sku": "a", "n": 1}, {"sku": "b"}, {"sku": 3}],
            "at": "2026-01-31T00:00:00Z",
        }
        for _ in range(49)
    ]
    archived(
        project, "a.jsonl", [*events, {"price": "1.5", "at": "2026-01-31T00:00:00.123+05:30", "paid": None}]
    )
    found = schema_of(project)
    price, sku, at = (found.path(name) for name in ("price", "items[].sku", "at"))
    assert price is not None
    assert sku is not None
    assert at is not None
    assert price.kind_shares() == {"number": 0.98, "string": 0.02}
    assert (price.share, at.share, sku.share) == (1, 1, 0.98)
    assert dict(sku.kinds) == {"integer": 49, "string": 49}
    assert (at.format, price.format) == ("timestamp", None)


def test_whatever_the_payloads_are_they_are_counted_as_another_parser_counts_them(project: Project) -> None:
    """Thousands of random payloads: odd keys, duplicate keys, lists in lists, broken ones, in several commits and files."""
    rng = random.Random(5)
    values: list[bytes] = []
    for number in range(4):
        values += archived(project, f"{number}.jsonl", [_random_payload(rng) for _ in range(1000)])
    found = schema_of(project)
    assert found.events == 4000
    assert found.not_json > 50
    assert found.not_utf8 > 20
    assert any('"' in facts.path for facts in found.paths)
    assert_counted(found, values)


def test_small_batches_count_as_large_ones(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are cut into pieces, and put together, without a row lost or counted twice."""
    rng = random.Random(6)
    values: list[bytes] = []
    for number, events in enumerate((700, 3, 2, 900)):
        values += archived(project, f"{number}.jsonl", [_random_payload(rng) for _ in range(events)])
    monkeypatch.setattr(batches, "_BATCH_EVENTS", 256)
    assert_counted(schema_of(project), values)


def test_only_files_of_the_snapshot_are_read(project: Project) -> None:
    """A file that an interrupted write has left beside the others doesn't count."""
    values = archived(project, "a.jsonl", [{"a": number} for number in range(10)])
    parquet = next(project.table.rglob("*.parquet"))
    shutil.copy(parquet, parquet.with_name("commit-00000000000000000009-abc.parquet"))
    assert_counted(schema_of(project), values)


def test_types_of_events_are_told_apart(project: Project) -> None:
    """A path knows in which types of events it is; too many values are put together, with a note."""
    archived(
        project, "a.jsonl", [{"event_type": f"t{n % 2}", **({"x": 1} if n % 2 else {})} for n in range(100)]
    )
    found = schema_of(project, type_field="event_type")
    x = found.path("x")
    assert x is not None
    assert dict(found.types) == {"t0": 50, "t1": 50}
    assert dict(x.types) == {"t1": 50}
    archived(project, "b.jsonl", [{"event_type": f"id{n}"} for n in range(1000)])
    found = schema_of(project, type_field="event_type")
    assert len(found.types) == 201
    assert sum(found.types.values()) == 1100
    assert any("too many values" in note for note in found.notes)


def test_since_looks_at_later_commits_only(project: Project) -> None:
    """What arrived before isn't counted; first and last seen name commits and their times."""
    archived(project, "a.jsonl", [{"a": 1}] * 10)
    first = schema_of(project).paths[0].seen
    archived(project, "b.jsonl", [{"b": 1}] * 20)
    later = schema_of(project).path("b")
    assert later is not None
    assert later.seen.first_commit > first.last_commit
    assert later.seen.first_ingested_at > first.last_ingested_at
    since = schema_of(project, since=later.seen.first_ingested_at)
    assert [facts.path for facts in since.paths] == ["$", "b"]
    assert (since.events, since.of_events) == (20, 30)


def test_days_go_by_arrival_or_by_the_events_own_time(project: Project) -> None:
    """By default there is one day, today; with a time field those of the events, in UTC."""
    archived(
        project,
        "a.jsonl",
        [
            {"at": f"2026-01-0{1 + n % 3}T23:30:00-01:00", **({"x": n} if n % 3 == 2 else {})}
            for n in range(30)
        ],
    )
    by_arrival = stream_schema(project.config(), "events", Asked(), with_days=True)
    assert len({day.day for day in by_arrival.days}) == 1
    by_time = stream_schema(project.config(), "events", Asked(time_field="at"), with_days=True)
    assert [(str(day.day), day.events, day.share) for day in by_time.days if day.path == "at"] == [
        ("2026-01-02", 10, 1),
        ("2026-01-03", 10, 1),
        ("2026-01-04", 10, 1),
    ]
    assert [(str(day.day), day.events) for day in by_time.days if day.path == "x"] == [("2026-01-04", 10)]


def test_a_sample_is_about_as_large_as_asked_and_always_the_same(project: Project) -> None:
    """Shares come out about right; the note on how many events there are is kept."""
    archived(project, "a.jsonl", [{"a": n, **({"b": 1} if n % 4 == 0 else {})} for n in range(20_000)])
    one, again = schema_of(project, sample=4000), schema_of(project, sample=4000)
    assert one == again
    assert 3600 < one.events < 4400
    assert one.of_events == 20_000
    b = one.path("b")
    assert b is not None
    assert 0.22 < b.share < 0.28


def test_an_empty_stream_has_an_empty_schema(project: Project) -> None:
    """Nothing archived yet, or nothing that is JSON."""
    assert schema_of(project).paths == ()
    archived(project, "a.jsonl", [b"nope"])
    found = schema_of(project)
    assert (found.events, found.not_json, found.paths) == (1, 1, ())


def test_a_path_that_is_none_is_refused(project: Project) -> None:
    """A type field within a list names no one value."""
    for path in ("a[]", "a..b", "", 'a."b'):
        with pytest.raises(UsageError):
            schema_of(project, type_field=path)


_SCALARS = (
    "1",
    "-7",
    "1.0",
    "1e3",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "true",
    "null",
    '"x"',
    '""',
    '"2026-01-31"',
    '"2026-13-31"',
    '"2026-01-31T10:00:00Z"',
    '"2026-01-31t10:00:00.5+05:30"',
    '"2026-01-31T10:00:00"',
    '"00000000-1111-2222-3333-444444444444"',
    '"00000000-1111-2222-3333-44444444444g"',
)
_KEYS = ["a", "b", "c-d", "e.f", 'g"h', "ü", "", "*", "$", "[]", "a b", "\x00", "x\\y", "'", "😀", "null"]


def _random_payload(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.03:
        return rng.choice(
            [
                b"nope",
                b"{",
                b'{"a":1,}',
                b"NaN",
                b'{"a":NaN}',
                b"[1 2]",
                b"\xff",
                b'{"a":"\xe9"}',
            ]
        )
    return _random_json(rng, 0 if kind > 0.1 else 2).encode()


def _random_json(rng: random.Random, depth: int) -> str:
    kinds = ["object"] * 3 if depth == 0 else ["object", "list"] if depth < 4 else []
    kind = rng.choice([*kinds, *([] if depth == 0 else ["scalar"] * 3)])
    if kind == "object":
        pairs = [(rng.choice(_KEYS), _random_json(rng, depth + 1)) for _ in range(rng.randrange(5))]
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=rng.random() < 0.5)}:{value}" for key, value in pairs)
            + "}"
        )
    if kind == "list":
        return "[" + ", ".join(_random_json(rng, depth + 1) for _ in range(rng.randrange(4))) + "]"
    return rng.choice(_SCALARS)
