"""`scaffold stream` adds a stream to the configuration as text, and leaves the rest as somebody wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from event_archive.cli.starter import CONFIG
from event_archive.config import parse_config
from event_archive.errors import UsageError
from event_archive.scaffold.configuration import add_stream, plan_addition

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scaffold.place import Place

COMMENTED = """\
# ours
archive: archive   # here
streams:
    a:   # the first
        source: {type: files, path: landing/a}
    b:
        source:
            type: files
            path: landing/b # with a comment
    # not yet: c

# and then
warehouse: warehouse
keep_builds: 4
"""
STREAMS_AT_THE_END = (
    "archive: archive\nwarehouse: warehouse\nstreams:\n  a:\n    source: {type: files, path: landing/a}"
)


@pytest.mark.parametrize(
    "text",
    [
        COMMENTED,
        CONFIG,
        STREAMS_AT_THE_END,
        COMMENTED.replace("\n", "\r\n"),
        "archive: archive\nstreams:\nwarehouse: warehouse\n",
        "archive: archive\nstreams: # none yet\nwarehouse: warehouse\n",
        "archive: archive\nwarehouse: warehouse\n",
        "archive: archive\nstreams: {} # none\nwarehouse: warehouse\n",
        "archive: archive\nwarehouse: warehouse\nstreams:\n  a:\n    description: |\n      two\n      lines\n    source: {type: files, path: l/a}\n",
        "archive: archive\nwarehouse: warehouse\nstreams:\n  a:\n    source: {type: files, path: l/a}\n    description: >\n      two\n      lines\n",
        "archive: archive\nwarehouse: warehouse\nstreams:\n  a:\n    source: {type: files,\n      path: l/a}\n  # end\n",
    ],
)
def test_a_stream_is_added_and_every_other_line_stays(tmp_path: Path, text: str) -> None:
    """The lines that were there are there still, in their order; the configuration says the same and one stream more."""
    path = tmp_path / "event_archive.yaml"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    before = parse_config(text, path)
    addition = plan_addition(path, "orders", "data/landing/or ders: #1")
    assert path.read_bytes() == text.encode()
    add_stream(addition)
    after = path.read_bytes().decode()
    config = parse_config(after, path)
    assert set(config.streams) == {*before.streams, "orders"}
    assert config.streams["orders"].source.path == tmp_path / "data/landing/or ders: #1"  # type: ignore[union-attr]
    assert all(config.streams[name] == before.streams[name] for name in before.streams)
    rest = after.splitlines()
    for line in addition.lines:
        rest.remove(line)
    assert rest == text.replace("streams: {}", "streams:").splitlines()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "event_archive.yaml"]
    assert (tmp_path / "data/landing/or ders: #1").is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "{archive: archive, warehouse: warehouse, streams: {}}\n",
        "archive: archive\nwarehouse: warehouse\nstreams: {\n}\n",
        "archive: archive\nwarehouse: warehouse\nstreams: {a: {source: {type: files, path: l}}}\n",
        "archive: archive\nwarehouse: warehouse\nstreams: null\n",
        "archive: archive\nwarehouse: warehouse\nstreams:\n  orders:\n    source: {type: files, path: l}\n",
    ],
)
def test_what_lines_cannot_be_added_to_stays_as_it_is(tmp_path: Path, text: str) -> None:
    """Written in another style, or the stream is there already: refused."""
    path = tmp_path / "event_archive.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="as it was"):
        plan_addition(path, "orders", "landing")
    assert path.read_text() == text


def test_a_configuration_that_was_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Between reading and writing somebody saved it in an editor: their text stays."""
    path = tmp_path / "event_archive.yaml"
    path.write_text(STREAMS_AT_THE_END)
    addition = plan_addition(path, "orders", "landing")
    path.write_text(COMMENTED)
    with pytest.raises(UsageError, match="changed it meanwhile"):
        add_stream(addition)
    assert path.read_text() == COMMENTED


def test_a_stream_that_cannot_be_added_leaves_no_models_behind(place: Place) -> None:
    """The configuration is asked before anything is written, and the error says the way out, which works."""
    place.config_file.write_text("{archive: archive, warehouse: warehouse, streams: {}}\n")
    sample = place.land("sample", "s.jsonl", [{"event_id": f"{n}"} for n in range(20)])
    done = place.run("scaffold", "stream", "orders", "--sample", str(sample))
    assert (done.returncode, done.stdout, "--no-write" in done.stderr) == (2, "", True)
    assert not place.project.exists()
    by_hand = place.run("scaffold", "stream", "orders", "--sample", str(sample), "--no-write")
    assert (by_hand.returncode, "  orders:\n" in by_hand.stdout) == (0, True)


def test_a_new_stream_is_configured_and_can_be_ingested(place: Place) -> None:
    """From a sample to an archived event by three commands."""
    place.config_file.write_text("archive: archive\nwarehouse: warehouse\nstreams:\n")
    sample = place.land("sample", "s.jsonl", [{"event_id": f"{n}", "a": n} for n in range(20)])
    done = place.run("scaffold", "stream", "orders", "--sample", str(sample), "--landing", "landing/sample")
    assert done.returncode == 0, done.stderr
    assert place.run("ingest", "--settled").returncode == 0
    assert place.build("warehouse").rows("select count(*) from staging.stg_orders__orders") == [(20,)]
