"""The README's commands are run as they stand there, its tests exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_STREAM = "## Add your own stream"
EVENTS = b"".join(
    b'{"id": "%d", "at": "2026-01-%02dT12:00:00Z", "customer": "c%d", "amount": %d.50}\n'
    % (number, 1 + number % 28, number % 3, number)
    for number in range(200)
)


def commands_in(text: str) -> list[str]:
    """What a reader types, line by line."""
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


COMMANDS = commands_in(README)
COMMANDS_OF_OWN_STREAM = commands_in(README.partition(OWN_STREAM)[2].partition("\n## ")[0])


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo: its configuration, some events, archived, and the tables built by Dagster."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copy(ROOT / "event_archive.yaml", folder)
    places = ["--landing", str(folder / "data/landing"), "--truth", str(folder / "data/truth")]
    subprocess.run(
        [sys.executable, "-m", "demo.generate", "--events", "2000", "--seed", "7", *places],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    run_jobs = (
        "import dagster as dg, pathlib; from event_archive.config import load_config\n"
        "from orchestration.definitions import build_definitions\n"
        "definitions = build_definitions(config=load_config(pathlib.Path('event_archive.yaml')))\n"
        "with dg.DagsterInstance.ephemeral() as instance:\n"
        "    for job in ('ingest', 'refresh'):\n"
        "        definitions.resolve_job_def(job).execute_in_process(instance=instance)\n"
    )
    subprocess.run([sys.executable, "-c", run_jobs], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.timeout(1200)
def test_the_commands_of_the_readme_work_in_its_order(demo_folder: Path) -> None:
    """Over the demo, one after the other: some are about what another has made."""
    for command in COMMANDS:
        if command.startswith("event-archive ") and command not in COMMANDS_OF_OWN_STREAM:
            typed(command, demo_folder)


def test_a_stream_of_ones_own_goes_from_nothing_to_tables(tmp_path: Path) -> None:
    """The commands of that section in an empty folder, with a file of events where it says."""
    assert len(COMMANDS_OF_OWN_STREAM) >= 6
    for command in COMMANDS_OF_OWN_STREAM:
        said = typed(command, tmp_path)
        if command == "event-archive init":
            (tmp_path / "data/landing/events/first.jsonl").write_bytes(EVENTS)
        if "from totals" in command:
            assert "c0" in said


def typed(command: str, folder: Path) -> str:
    """What a command says, which must end well."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("EVENT_ARCHIVE_CONFIG", None)
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    assert done.stdout, command
    return done.stdout


def test_every_other_command_of_the_readme_is_known() -> None:
    """`make` targets exist; nothing else is asked of a reader."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in COMMANDS:
        program, _, argument = command.partition(" ")
        assert program in ("make", "event-archive", "dagster", "export"), command
        assert program != "make" or argument in targets, command


def test_every_test_that_the_readme_and_the_docs_name_exists() -> None:
    """A guarantee without its test is a claim."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    texts = README + "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"`(test_\w+)", texts))
    assert named
    assert [name for name in sorted(named) if f"def {name}" not in code] == []
    assert [path for path in re.findall(r"`(tests/[\w/.]+)`", README) if not (ROOT / path).exists()] == []


def test_every_link_leads_to_a_file() -> None:
    """In the README and in the docs."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page}: {target}"
