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
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
]


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


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("event-archive ")])
def test_each_command_of_the_readme_works(command: str, demo_folder: Path, tmp_path: Path) -> None:
    """Those about a stream of one's own in an empty folder, the others over the demo."""
    is_own_stream = "init" in command or "archive.events" in command or "--settled" in command
    folder = tmp_path if is_own_stream else demo_folder
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("EVENT_ARCHIVE_CONFIG", None)
    if is_own_stream and "init" not in command:
        subprocess.run(
            ["event-archive", "init"], cwd=folder, env=environment, check=True, capture_output=True
        )
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


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
