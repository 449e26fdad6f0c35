"""A mistake in the configuration gives the file, the line, the key and what to do."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from event_archive.config import load_config, parse_config
from event_archive.errors import ConfigurationError
from event_archive.source_config import FilesSource

HEAD = "archive: a\nwarehouse: w\nstreams:\n"
TOPIC = HEAD + "  a:\n    source: {type: kafka, brokers: 'h:9092', topic: t}\n"
FOLDER = HEAD + "  a:\n    source: {type: files, path: x}\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "  Bookings:\n    source: {type: files, path: x}\n", "4: streams.Bookings", "no stream name"),
        (HEAD + "  a-b:\n    source: {type: files, path: x}\n", "4: streams.a-b", "no stream name"),
        (HEAD + "  ../x:\n    source: {type: files, path: x}\n", "4: streams.../x", "no stream name"),
        (
            HEAD + f"  {'a' * 64}:\n    source: {{type: files, path: x}}\n",
            f"4: streams.{'a' * 64}",
            "at most 63",
        ),
        (
            HEAD + "  a:\n    source:\n      type: files\n      pth: x\n",
            "7: streams.a.source.pth",
            "no such key",
        ),
        (HEAD + "  a:\n    source:\n      type: files\n", "5: streams.a.source.path", "missing"),
        (HEAD + "  a:\n    source: {type: ftp, path: x}\n", "5: streams.a.source.type", "files"),
        (
            HEAD + "  a:\n    commit_bytes: lots\n    source: {type: files, path: x}\n",
            "5: streams.a.commit_bytes",
            "128 MB",
        ),
        (
            HEAD + "  a:\n    source: {type: files, path: x, settle_seconds: -1}\n",
            "5: streams.a.source.settle_seconds",
            "0",
        ),
        ("archive: a\nwarehouse: s3://bucket/p\n", "2: warehouse", "local disk"),
        ("archive: s3://b/p\nwarehouse: w\n", "1: archive", "s3://bucket/prefix"),
        ("archive: gs://bucket/p\nwarehouse: w\n", "1: archive", "s3://bucket/prefix"),
        ("archive: s3://bucket/a/../b\nwarehouse: w\n", "1: archive", "one of dots"),
        ("warehouse: w\n", "1: archive", "missing"),
        (
            HEAD + "  a:\n    source: {type: files, path: x}\n  a:\n    source: {type: files, path: y}\n",
            "6: a",
            "twice",
        ),
        (TOPIC + "    lag_below: 0\n", "6: streams.a.lag_below", "greater"),
        (TOPIC + "    ingest_when_lag_above: -1\n", "6: streams.a.ingest_when_lag_above", "greater"),
        (TOPIC + "    gaps_known_until: 2026-01-31T00:00:00\n", "6: streams.a.gaps_known_until", "zone"),
        (TOPIC + "    gaps_known_until: 2026-01-31\n", "6: streams.a.gaps_known_until", "zone"),
        (TOPIC + "    gaps_known_until: 20260131\n", "6: streams.a.gaps_known_until", "zone"),
        (FOLDER + "    lag_below: 5\n", "6: streams.a.lag_below", "a topic"),
        (FOLDER + "    ingest_when_lag_above: 5\n", "6: streams.a.ingest_when_lag_above", "a topic"),
        (
            FOLDER + "    gaps_known_until: 2026-01-31T00:00:00Z\n",
            "6: streams.a.gaps_known_until",
            "a topic",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, place: str, words: str) -> None:
    """One sentence per mistake."""
    with pytest.raises(ConfigurationError, match=re.escape(f"/x/event_archive.yaml:{place}: ")) as error:
        parse_config(text, Path("/x/event_archive.yaml"))
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "just text", "\x00"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    """Without a traceback of the parser."""
    with pytest.raises(ConfigurationError, match=r"/x/event_archive\.yaml"):
        parse_config(text, Path("/x/event_archive.yaml"))


def test_a_missing_file_tells_how_to_get_one(tmp_path: Path) -> None:
    """Or how to name another."""
    with pytest.raises(ConfigurationError, match="event-archive init"):
        load_config(tmp_path / "none.yaml")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is run, and also when the variable names the file."""
    path = tmp_path / "etc" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + "  a:\n    source: {type: files, path: ../in}\n    commit_bytes: 1 KB\n")
    monkeypatch.setenv("EVENT_ARCHIVE_CONFIG", str(path))
    config = load_config()
    archive = tmp_path / "etc" / "a"
    assert (config.archive, config.table("a").url) == (str(archive), str(archive / "a"))
    source = config.streams["a"].source
    assert isinstance(source, FilesSource)
    assert source.path == tmp_path / "etc" / ".." / "in"
    assert config.streams["a"].commit_bytes == 1024


def test_sizes_may_have_units() -> None:
    """Powers of 1,024, as memory is counted."""
    for text, size in (("7", 7), ("'7'", 7), ("2KB", 2048), ("1 mb", 2**20), ("1 GB", 2**30)):
        config = parse_config(
            HEAD + f"  a: {{commit_bytes: {text}, source: {{type: files, path: x}}}}\n", Path("/x/y")
        )
        assert config.streams["a"].commit_bytes == size


def test_a_topic_may_have_limits_of_its_lag_and_gaps_that_are_known() -> None:
    """All are off by default; a time is taken with its zone, quoted or not."""
    plain = parse_config(TOPIC, Path("/x/y")).streams["a"]
    assert (plain.lag_below, plain.ingest_when_lag_above, plain.gaps_known_until) == (None, None, None)
    keys = "    lag_below: 5000\n    ingest_when_lag_above: 0\n    gaps_known_until: {}\n"
    for time in ("2026-01-31T01:00:00+01:00", "'2026-01-31T00:00:00Z'"):
        stream = parse_config(TOPIC + keys.format(time), Path("/x/y")).streams["a"]
        assert (stream.lag_below, stream.ingest_when_lag_above) == (5000, 0)
        assert stream.gaps_known_until == dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
