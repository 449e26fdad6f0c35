"""What a broker is started from: only the pinned jars, fetched once, whoever asks first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from demo.kafka import installation, jars

ROOT = Path(__file__).parents[2]


def test_a_jar_with_other_contents_is_refused(
    tmp_path: Path, kafka_is_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one too few, and one too many; each is named."""
    here = tmp_path / jars.kafka_version() / "jars"
    shutil.copytree(jars.version_folder() / "jars", here)
    monkeypatch.setenv(jars.CACHE_VARIABLE, str(tmp_path))
    assert jars.jars_folder.__wrapped__() == here

    names = sorted(jars.pinned_checksums())
    with (here / names[0]).open("ab") as file:
        file.write(b"x")
    (here / names[1]).unlink()
    (here / "more.jar").touch()
    with pytest.raises(jars.KafkaUnavailable) as refused:
        jars.jars_folder.__wrapped__()
    for reason in (f"{names[0]} has SHA-256", f"{names[1]} is missing", "more.jar is not pinned"):
        assert reason in str(refused.value)
    assert names[2] not in str(refused.value)


def test_without_java_or_maven_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That sentence is what a skipped test shows."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(jars.KafkaUnavailable, match="no Java here"):
        jars.java.__wrapped__()
    monkeypatch.setenv(jars.CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(jars.KafkaUnavailable, match="no Maven"):
        jars.jars_folder.__wrapped__()


def test_many_processes_fetch_the_jars_once(tmp_path: Path, kafka_is_here: None) -> None:
    """Four start with an empty cache; all get the same complete folder."""
    environment = {**os.environ, jars.CACHE_VARIABLE: str(tmp_path)}
    command = [sys.executable, "-m", "demo.kafka.jars"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    printed = {process.communicate(timeout=300)[0].strip() for process in processes}
    folder = tmp_path / jars.kafka_version()
    assert printed == {str(folder / "jars")}
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "jars"]
    jars.check_jars(folder / "jars", jars.pinned_checksums())


def test_a_broken_class_archive_only_costs_time(tmp_path: Path, kafka_is_here: None) -> None:
    """Another Java, or half a file: the broker starts without it."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for path in installation.installed().folder.iterdir():
        (cache / path.name).symlink_to(path)
    broken = installation.Installation(jars.java(), cache)
    broken.class_archive.unlink()
    broken.class_archive.write_bytes(b"nothing of use")
    run = subprocess.run(
        [*broken.java_command([]), "kafka.Kafka", "--version"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(jars.kafka_version())


def test_compose_runs_the_same_version_for_this_machine_only() -> None:
    """`compose.yaml` follows the pom, and its port is on loopback."""
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["kafka"]
    assert service["image"] == f"apache/kafka:{jars.kafka_version()}"
    assert service["ports"] == ["127.0.0.1:9092:9092"]
