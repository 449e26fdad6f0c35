"""Where Kafka's jars come from: fetched once by Maven, kept in a cache folder, checked against pinned checksums.

What is pinned stands in `pom.xml` (versions) and `jars.sha256` (contents). To move to another version: change the
pom, run `python -m demo.kafka.jars --pin`, and read the difference. Starting a broker is in `broker.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

POM_FILE = Path(__file__).with_name("pom.xml")
CHECKSUMS_FILE = Path(__file__).with_name("jars.sha256")
DEFAULT_CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
CACHE_VARIABLE = "EVENT_ARCHIVE_KAFKA_CACHE"
OLDEST_JAVA = 17
MAVEN_TIMEOUT_SECONDS = 900


class KafkaUnavailable(Exception):
    """This machine can't run Kafka: no Java, no Maven to fetch it with, or jars that can't be had or trusted."""


def kafka_version() -> str:
    """The pinned version of Kafka."""
    pom = ET.parse(POM_FILE)  # noqa: S314 - our own file
    version = pom.findtext(
        "m:properties/m:kafka.version", namespaces={"m": "http://maven.apache.org/POM/4.0.0"}
    )
    if not version:
        raise KafkaUnavailable(f"{POM_FILE} names no kafka.version")
    return version


def version_folder() -> Path:
    """The folder of the pinned version in the cache: `$EVENT_ARCHIVE_KAFKA_CACHE` or `.cache/kafka`."""
    return Path(os.environ.get(CACHE_VARIABLE) or DEFAULT_CACHE).absolute() / kafka_version()


@functools.cache
def java() -> str:
    """Path of a Java that is new enough for Kafka.

    Raises:
        KafkaUnavailable: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    found = found or shutil.which("java")
    if not found:
        raise KafkaUnavailable(
            f"no Java here: neither JAVA_HOME nor PATH leads to a java (needs {OLDEST_JAVA} or newer)"
        )
    asked = subprocess.run(  # noqa: S603 - found on the PATH
        [found, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    says = asked.stderr.strip()
    version = re.search(r'version "(\d+)', says)
    if asked.returncode or not version:
        raise KafkaUnavailable(f"{found} does not run: {says or asked.returncode}")
    if int(version[1]) < OLDEST_JAVA:
        raise KafkaUnavailable(
            f"{found} is Java {version[1]}; Kafka {kafka_version()} needs {OLDEST_JAVA} or newer"
        )
    return found


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder against other processes (and threads); freed when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def jars_folder() -> Path:
    """The folder with exactly the pinned jars; fetches them when they aren't in the cache.

    Safe to call from many processes at once. The contents are checked once per process.

    Raises:
        KafkaUnavailable: Maven is missing or failed, or a jar isn't the pinned one.
    """
    folder = version_folder() / "jars"
    with locked(folder.parent):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as fetched:
                _fetch(Path(fetched))
                check_jars(Path(fetched), pinned_checksums())
                Path(fetched).rename(folder)
                Path(fetched).mkdir()  # for the context manager to remove
        else:
            check_jars(folder, pinned_checksums())
    return folder


def pinned_checksums() -> dict[str, str]:
    """SHA-256 of each jar by its file name, as pinned in `jars.sha256` (the format of `sha256sum`)."""
    lines = CHECKSUMS_FILE.read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def check_jars(folder: Path, pinned: dict[str, str]) -> None:
    """Refuses a folder that holds anything but the pinned jars.

    Raises:
        KafkaUnavailable: Naming every jar that is missing, unknown, or has other contents.
    """
    found = _checksums(folder)
    faults = [
        *(f"{name} is missing" for name in sorted(pinned.keys() - found.keys())),
        *(f"{name} is not pinned" for name in sorted(found.keys() - pinned.keys())),
        *(
            f"{name} has SHA-256 {found[name]}, pinned is {pinned[name]}"
            for name in sorted(found.keys() & pinned.keys())
            if found[name] != pinned[name]
        ),
    ]
    if faults:
        raise KafkaUnavailable(
            f"the jars in {folder} are not those of {CHECKSUMS_FILE.name}: {'; '.join(faults)}. "
            "Remove that folder to have them fetched again"
        )


def _checksums(folder: Path) -> dict[str, str]:
    checksums = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            checksums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if not maven:
        raise KafkaUnavailable(
            f"Kafka {kafka_version()} is not in {version_folder()} and there is no Maven (mvn) to fetch it"
        )
    java()
    command = [
        maven,
        "--batch-mode",
        "--quiet",
        "--no-transfer-progress",
        "-Dstyle.color=never",
        "--file",
        str(POM_FILE),
    ]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        run = subprocess.run(  # noqa: S603 - found on the PATH, arguments of our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAVEN_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaUnavailable(f"Maven did not fetch Kafka within {MAVEN_TIMEOUT_SECONDS} s") from None
    if run.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout).strip()  # Maven colours even what nobody sees
        raise KafkaUnavailable(f"Maven could not fetch Kafka {kafka_version()}:\n{said[-3000:]}")


def main() -> None:
    """Fetches the jars, or pins what the pom asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.kafka.jars", description="Fetch the pinned jars of Kafka."
    )
    parser.add_argument("--pin", action="store_true", help="write the checksums of what the pom asks for")
    pin = parser.parse_args().pin
    try:
        if pin:
            with tempfile.TemporaryDirectory() as fetched:
                _fetch(Path(fetched))
                lines = [f"{digest}  {name}\n" for name, digest in _checksums(Path(fetched)).items()]
            CHECKSUMS_FILE.write_text("".join(lines))
            print(f"{CHECKSUMS_FILE}: {len(lines)} jars")
        else:
            print(jars_folder())
    except KafkaUnavailable as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
