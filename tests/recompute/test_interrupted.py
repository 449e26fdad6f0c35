"""Recomputes that don't come to their end, and several at once, as processes: what is published stays, and the next refresh comes to the same.

What doesn't live here: being killed at each step of publishing (`tests/warehouse/test_killed_at_each_step.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from event_archive.recompute import run
from event_archive.recompute.dbt import BuildFailed
from event_archive.recompute.request import Request
from event_archive.warehouse import start_build
from tests.recompute.place import Place, orders, visits
from tests.recompute.test_refresh import no_dbt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from event_archive.warehouse import Build
PATIENCE_SECONDS = 120


# A background shell has its children ignore SIGINT, a terminal doesn't.
AS_FROM_A_TERMINAL = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"


def start(place: Place, *arguments: str) -> subprocess.Popen[str]:
    """Starts a command as the first of a process group of its own, as a terminal does."""
    command = [sys.executable, "-m", "event_archive", *(arguments or ["refresh"])]
    return subprocess.Popen(
        [sys.executable, "-c", AS_FROM_A_TERMINAL, *command],
        cwd=place.folder,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def dbt_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The dbt that a refresh has started, once it has begun with the models."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            try:
                is_busy = any(file.path.endswith("current.duckdb") for file in child.open_files())
            except psutil.Error:
                continue
            if "build" in child.cmdline() and is_busy:
                return child
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def no_leftovers(place: Place) -> None:
    """Nothing of a build that isn't finished."""
    assert list((place.warehouse / "building").iterdir()) == []
    assert {file.stem for file in (place.warehouse / "builds").iterdir()} == {
        file.stem for file in (place.warehouse / "builds").glob("*.json")
    }


def archive_more(place: Place) -> Place:
    """Archives something new of everything."""
    place.archive("orders", orders(15, 30))
    place.archive("visits", visits(20, 30))
    return place


@pytest.fixture(scope="module")
def rebuilt(built_shop: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a rebuild gives of a `place`."""
    folder = tmp_path_factory.mktemp("rebuilt") / "shop"
    shutil.copytree(built_shop.folder, folder, symlinks=True)
    return archive_more(Place(folder)).rebuilt()


@pytest.fixture
def place(shop: Place) -> Place:
    """A shop with something new of everything."""
    return archive_more(shop)


@pytest.fixture
def before(place: Place, rebuilt: dict[str, list[str]]) -> Iterator[str]:
    """The build that is published; afterwards the next refresh makes of it what a rebuild gives, and leaves nothing behind."""
    yield place.live
    place.recompute()
    assert place.contents() == rebuilt
    no_leftovers(place)


@pytest.mark.parametrize("is_first", [False, True], ids=["more", "first"])
def test_two_refreshes_at_once_do_the_work_once(
    *,
    is_first: bool,
    place: Place,
    rebuilt: dict[str, list[str]],
) -> None:
    """The one that has to wait then finds nothing to do; so do those that make the first tables."""
    if is_first:
        shutil.rmtree(place.warehouse)
    both = [start(place), start(place)]
    said = [process.communicate(timeout=PATIENCE_SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("Nothing to do" in out for out, _ in said) == [False, True]
    assert place.recompute(fill=no_dbt).record is None
    assert place.contents() == rebuilt
    no_leftovers(place)


def test_tables_that_have_come_while_one_waited_are_gone_on_from(
    place: Place, rebuilt: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There were none when it began to wait; then another has made them, and more was archived."""
    shutil.rmtree(place.warehouse)

    def start_late(*arguments: Any, **options: Any) -> Build:
        monkeypatch.setattr(run, "start_build", start_build)
        place.recompute(Request(select=("orders",)))
        return start_build(*arguments, **options)

    monkeypatch.setattr(run, "start_build", start_late)
    done = place.recompute()
    assert done.record is not None
    assert (done.record.mode, set(done.plan.behind)) == (
        "refresh",
        {"stg_visits", "customers", "totals", "sales_daily", "best_customers"},
    )
    assert place.contents() == rebuilt


def test_dbt_that_is_killed_takes_nothing_with_it(place: Place, before: str) -> None:
    """Exit code 1, and a sentence that says what has happened."""
    refresh = start(place)
    dbt_of(refresh).send_signal(signal.SIGKILL)
    _, complaint = refresh.communicate(timeout=PATIENCE_SECONDS)
    assert refresh.returncode == 1
    assert "The published tables stay as they were: dbt was ended from outside (Killed)" in complaint
    assert place.live == before
    no_leftovers(place)


def test_a_refresh_that_is_killed_with_all_that_is_its_own_leaves_the_published_tables(
    place: Place, before: str
) -> None:
    """As by a power cut; what it leaves is cleared away by the next one."""
    refresh = start(place)
    dbt_of(refresh)
    os.killpg(refresh.pid, signal.SIGKILL)
    refresh.communicate(timeout=PATIENCE_SECONDS)
    assert place.live == before
    assert list((place.warehouse / "building").iterdir()) != []


@pytest.mark.parametrize(
    ("number", "is_for_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)],
    ids=["ctrl-c", "sigterm"],
)
def test_a_refresh_that_is_told_to_stop_stops_with_its_dbt(
    number: signal.Signals,
    code: int,
    place: Place,
    before: str,
    *,
    is_for_all: bool,
) -> None:
    """Ctrl-C, which the terminal gives to both of them; SIGTERM, which a service manager may give to the one alone."""
    refresh = start(place)
    dbt = dbt_of(refresh)
    if is_for_all:
        os.killpg(refresh.pid, number)
    else:
        refresh.send_signal(number)
    said = refresh.communicate(timeout=PATIENCE_SECONDS)
    assert refresh.returncode == code, said
    assert "Traceback" not in said[1]
    assert not psutil.pid_exists(dbt.pid)
    assert place.live == before
    no_leftovers(place)


def test_a_model_that_fails_is_named_and_nothing_is_published(place: Place, before: str) -> None:
    """With what the database says."""
    place.edit("models/marts/totals.sql", "sum(visits)", "sum(visits) + cast('no such thing' as bigint)")
    with pytest.raises(
        BuildFailed,
        match=r"stay as they were: model totals could not be built \(.*no such thing.*\); correct",
    ):
        place.recompute()
    assert place.live == before
    place.edit("models/marts/totals.sql", "sum(visits) + cast('no such thing' as bigint)", "sum(visits)")


def test_a_check_that_fails_is_named_and_nothing_is_published(place: Place) -> None:
    """Exit code 1; when the check is put right, the next refresh heals."""
    before = place.live
    place.archive("orders", [{**orders(40, 41)[0], "amount": -7}])
    said = place.run("refresh", expect=1)
    assert (
        "stay as they were: check no_sale_is_negative found 1 row; correct the models or what they read"
        in said
    )
    assert place.live == before
    no_leftovers(place)
    place.edit("tests/no_sale_is_negative.sql", "< 0", "< -1000")
    place.recompute()
    assert place.contents() == place.rebuilt()


def test_a_full_disk_is_told_and_nothing_is_published(place: Place, before: str) -> None:
    """On a small file system of its own; with room again, the next refresh heals."""
    builds, elsewhere = place.warehouse, place.folder / "elsewhere"
    builds.rename(elsewhere)
    builds.mkdir()
    megabytes = (
        2 + sum(file.stat().st_size for file in elsewhere.rglob("*.duckdb") if not file.is_symlink()) // 2**20
    )
    mount = ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(builds)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["cp", "-a", f"{elsewhere}/.", str(builds)], check=True)
        for size in (megabytes, 2 * megabytes - 3):
            subprocess.run(["mount", "-o", f"remount,size={size}m", str(builds)], check=True)
            said = place.run("refresh", expect=1)
            assert "No space left on device" in said
            assert re.search(r"[Mm]ake room", said), said
            assert place.live == before
            no_leftovers(place)
    finally:
        subprocess.run(["umount", "-l", str(builds)], check=True)
        builds.rmdir()
        elsewhere.rename(builds)
