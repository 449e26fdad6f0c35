"""Environments for the engines that read our tables: each in a virtual environment of its own, since they ask for other versions than we do.

What is pinned stands in `*.in` (versions), `*.lock` (hashes) and `spark/` (Delta's jars). An environment is made once, by
`python -m tests.readers.environments` or by the first test that needs it, in `$EVENT_ARCHIVE_READERS_CACHE` or the user's cache
folder. To move to other versions: change the `.in` files or the pom, run it with `--pin` (needs uv), and read the difference.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo.kafka.jars import KafkaUnavailable, java, locked

HERE = Path(__file__).parent
CACHE_VARIABLE = "EVENT_ARCHIVE_READERS_CACHE"
TIMEOUT_SECONDS = 500
OURS = ("pyarrow", "pandas")
"""Engines that are in the project's own environment, as development dependencies."""
OTHERS = ("duckdb", "polars", "spark")
_JARS = HERE / "spark" / "jars.sha256"
_POM = HERE / "spark" / "pom.xml"


class EngineUnavailable(Exception):
    """This machine has no such environment and can't make one: offline, or a tool is missing."""


@dataclass(frozen=True)
class Environment:
    """Where an engine runs."""

    python: Path
    variables: dict[str, str]


def environment(engine: str) -> Environment:
    """The environment of an engine; makes it if it isn't there. Safe to call from many processes at once.

    Raises:
        EngineUnavailable: it can't be made here.
    """
    if engine in OURS:
        return Environment(Path(sys.executable), {})
    if engine == "spark":
        try:
            java()
        except KafkaUnavailable as reason:
            raise EngineUnavailable(str(reason)) from reason
    folder = _cache() / f"{engine}-{_fingerprint(engine)}"
    with locked(folder):
        if not (folder / "complete").exists():
            _make(engine, folder)
            (folder / "complete").touch()
    variables = {"PYSPARK_SUBMIT_ARGS": _spark_arguments(folder / "jars")} if engine == "spark" else {}
    return Environment(folder / "venv" / "bin" / "python", variables)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(home) / "event-archive" / "readers").absolute()


def _fingerprint(engine: str) -> str:
    """Of all that decides what is in an environment: another one gets another folder."""
    digest = hashlib.sha256(f"{sys.executable} {sys.version}".encode())
    for file in [HERE / f"{engine}.lock", *([_JARS] if engine == "spark" else [])]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _make(engine: str, folder: Path) -> None:
    venv, lock = folder / "venv", str(HERE / f"{engine}.lock")
    shutil.rmtree(venv, ignore_errors=True)
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(venv))
        python = str(venv / "bin" / "python")
        _run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock)
    else:
        _run(sys.executable, "-m", "venv", str(venv))
        pip = [str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        _run(*pip, "install", "--require-hashes", "--no-deps", "-r", lock)
    if engine == "spark":
        shutil.rmtree(folder / "jars", ignore_errors=True)
        _fetch_jars(folder / "jars")
        if (found := _checksums(folder / "jars")) != _JARS.read_text():
            raise EngineUnavailable(f"the jars in {folder / 'jars'} are not those of {_JARS.name}:\n{found}")


def _fetch_jars(folder: Path) -> None:
    maven = shutil.which("mvn")
    if not maven:
        raise EngineUnavailable("there is no Maven (mvn) to fetch Delta's jars for Spark with")
    quiet = ["--batch-mode", "--quiet", "--no-transfer-progress", "-Dstyle.color=never"]
    wanted = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    _run(maven, *quiet, "--file", str(_POM), *wanted)


def _checksums(folder: Path) -> str:
    """In the format of `sha256sum`."""
    jars = sorted(folder.iterdir())
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in jars)


def _spark_arguments(jars: Path) -> str:
    """What stands on Spark's command line: the jars; and that it is small, quiet, and on loopback alone."""
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
    }
    listed = ",".join(str(jar) for jar in sorted(jars.iterdir()))
    options = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    quick = "-XX:TieredStopAtLevel=1"  # it lives too briefly for Java's second compiler to pay
    return f"--master local[2] --jars {listed} --driver-java-options {quick} {options} pyspark-shell"


def _run(*command: str) -> None:
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise EngineUnavailable(f"{' '.join(command[:4])} …: {said[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailable(f"{' '.join(command[:4])} … took more than {TIMEOUT_SECONDS} s") from error


def _pin() -> None:
    for engine in OTHERS:
        # In that folder, so that the lock doesn't say where it was made.
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade", "--quiet"]
        places = ["--no-emit-index-url", "--no-emit-find-links"]
        command = ["uv", "pip", "compile", *options, *places, f"{engine}.in", "-o", f"{engine}.lock"]
        subprocess.run(command, cwd=HERE, check=True)
    with tempfile.TemporaryDirectory() as fetched:
        _fetch_jars(Path(fetched))
        _JARS.write_text(_checksums(Path(fetched)))


def main() -> None:
    """Makes the environments, or pins what they are made of."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.readers.environments", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--pin", action="store_true", help="write locks and checksums of what is asked for")
    if parser.parse_args().pin:
        _pin()
        return
    for engine in OTHERS:
        try:
            print(engine, environment(engine).python)  # noqa: T201 - a script prints
        except EngineUnavailable as reason:
            sys.exit(f"{engine}: {reason}")


if __name__ == "__main__":
    main()
