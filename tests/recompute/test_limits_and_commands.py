"""What the configuration allows a recompute to take, and how its commands look.

What doesn't live here: what they do.
"""

from __future__ import annotations

import json
import os
import pty
import re
import sys
from typing import TYPE_CHECKING

import pytest

from event_archive.recompute.dbt import BuildFailed
from tests.recompute.place import REBUILD, orders

if TYPE_CHECKING:
    from tests.conftest import Project
    from tests.recompute.place import Place

SETTINGS = "select {} from (select 1)".format(
    ", ".join(
        f"current_setting('{name}')::varchar as {name}"
        for name in ("threads", "memory_limit", "max_temp_directory_size", "temp_directory")
    )
)


def on_a_terminal(place: Place, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Runs a command on a terminal, and answers when it asks; gives its exit code and all that was to be read there."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place.folder)
        os.execve(  # noqa: S606 - our own command
            sys.executable, [sys.executable, "-m", "event_archive", *arguments], place.environment()
        )
    shown = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the last of the other side has closed it
            break
        if not read:
            break
        shown += read
        if answer and shown.endswith(b"[y/N]: "):  # the whole question, however many reads it came in
            os.write(terminal, answer.encode() + b"\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode()


def as_seen(shown: str) -> list[str]:
    """The lines that are left on a terminal: what was taken away again isn't, nor are colours."""
    lines = [""]
    place = 0
    for part in re.split(r"(\r\n|\r|\x1b\[[0-9;?]*[A-Za-z])", shown):
        if part == "\r\n":
            lines.append("") if place == len(lines) - 1 else None
            place += 1
        elif part == "\x1b[1A":
            place -= 1
        elif part == "\x1b[2K":
            lines[place] = ""
        elif not part.startswith(("\r", "\x1b")):
            lines[place] += part
    return [line.rstrip() for line in lines]


def test_limits_reach_duckdb_within_dbt(shop: Place) -> None:
    """Threads, memory and spilled data, and spilling beside the build; and dbt, which then takes one model after the other."""
    shop.configure("compute: {threads: 3, memory_bytes: 300 MB, max_spill_bytes: 70 MB}")
    model = shop.project / "models" / "staging" / "settings.sql"
    model.write_text(
        "{{ config(materialized='table', meta={'checked_by_hand': ['current_setting']}) }}\n" + SETTINGS
    )
    done = shop.recompute(REBUILD)
    assert done.dbt is not None
    workers = {
        result["thread_id"] for name, result in done.dbt.results.items() if not name.startswith("operation.")
    }
    assert len(workers) == 1
    ((threads, memory, spill, folder),) = shop.rows("from staging.settings")
    assert (threads, memory, spill) == ("3", "300.0 MiB", "70.0 MiB")
    assert re.search(r"/warehouse/building/[^/]+/spill$", folder)


@pytest.mark.parametrize(
    ("compute", "at_once"),
    [
        ("threads: 8", "8"),
        ("threads: 8, memory_bytes: 1500 MB", "1"),
        ("threads: 8, memory_bytes: 6 GB", "3"),
        ("threads: 2, memory_bytes: 64 GB", "2"),
    ],
)
def test_where_memory_is_bounded_fewer_models_run_beside_each_other(
    project: Project, compute: str, at_once: str
) -> None:
    """Each needs memory of its own; threads within one need none."""
    with project.config_file.open("a") as file:
        file.write(f"compute: {{{compute}}}\n")
    variables = project.config().compute.environment(spill=project.folder)
    assert variables["EVENT_ARCHIVE_AT_ONCE"] == at_once
    assert variables["EVENT_ARCHIVE_THREADS"] == compute.removeprefix("threads: ")[0]


def test_too_little_room_names_the_key_to_change(shop: Place) -> None:
    """With the model that needs more; what is published stays."""
    hungry = (
        "(select count(distinct md5(range::varchar) || md5((range + 1)::varchar)) from range(5000000)) > 0"
    )
    shop.edit(
        "models/marts/totals.sql",
        "from {{ ref('customers') }}",
        f"from {{{{ ref('customers') }}}} where {hungry}",
    )
    shop.configure("compute: {memory_bytes: 128 MB, max_spill_bytes: 1 MB, threads: 1}")
    before = shop.live
    with pytest.raises(
        BuildFailed,
        match=r"model totals could not be built \(.*Out of Memory.*\); raise `compute.max_spill_bytes` in the configuration",
    ):
        shop.recompute()
    assert shop.live == before


def test_a_refresh_as_json(shop: Place) -> None:
    """All that it says, for programs, and nothing else on stdout."""
    shop.archive("orders", orders(20, 25))
    shop.edit("macros/in_cents.sql", "* 100", "* 10")
    document = json.loads(shop.run("refresh", "--json"))
    assert document["ending"] == "published"
    assert document["build_id"] == shop.live
    assert document["file"] == str(shop.published)
    assert document["computed_in_full"]["orders"] == "its code has changed"
    assert (document["new_events"], document["new_since_published"]) == ({"orders": 5}, {"orders": 5})
    assert document["checks"] == {"passed": 4, "run": 4}
    assert {mart["mart"]: mart["digest"] for mart in document["record"]["marts"]} == shop.digests()
    assert {mart["mart"] for mart in document["difference"]["marts"]} == set(shop.digests())
    nothing = json.loads(shop.run("refresh", "--json"))
    assert (nothing["ending"], nothing["record"], nothing["seconds"] < 5) == ("nothing new", None, True)


def test_a_person_at_a_terminal_is_asked_and_sees_what_is_done(shop: Place) -> None:
    """What is said stands on lines of its own, without rests of the progress; the answer counts."""
    shop.configure("publish: ask")
    shop.edit("macros/in_cents.sql", "* 100", "* 1000")
    before = shop.live
    code, shown = on_a_terminal(shop, "refresh", answer="y")
    assert code == 0, shown
    assert "models and checks" in shown
    lines = as_seen(shown)
    assert "orders: computed in full, since its code has changed." in lines
    assert "  19 rows changed: amount_cents in 19" in lines
    assert "Publish it? [y/N]: y" in lines
    assert not [line for line in lines if "reading the models" in line or "models and checks" in line]
    assert shop.live != before


def test_help_says_what_can_be_asked_for(shop: Place) -> None:
    """Of each command, in words that say when one needs it."""
    said = " ".join(shop.run("rebuild", "--help").split())
    for words in ("--as-of", "--into", "--days", "--ingested", "--select", "--publish", "show what differs"):
        assert words in said
    assert "without starting dbt, if nothing is new" in " ".join(shop.run("refresh", "--help").split())
