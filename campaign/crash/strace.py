"""Finds strace, or gets it: Debian's package, unpacked into a cache, so that nothing of the machine is changed.

What doesn't live here: running it (`tracing`).
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_PACKAGES = ("strace", "libunwind8")
_PATIENCE_SECONDS = 120


class CannotTrace(Exception):
    """Strace is missing and can't be had, or may not trace here."""


@functools.cache
def strace_command() -> tuple[str, ...]:
    """How strace is started.

    Raises:
        CannotTrace: there is none.
    """
    if found := shutil.which("strace"):
        return (found,)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "event-archive" / "strace"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache / "usr/bin/strace").exists():
            _download(cache)
    libraries = ":".join(map(str, (cache / "usr/lib").glob("*-linux-gnu*")))
    return ("env", f"LD_LIBRARY_PATH={libraries}", str(cache / "usr/bin/strace"))


def why_not() -> str:
    """Why this machine can't trace; empty if it can."""
    try:
        command = strace_command()
    except CannotTrace as error:
        return str(error)
    # `ls` makes this call at its start; a process that may not be traced, or a kernel that injects nothing, is told from its end.
    options = ("-o", os.devnull, "-e", "inject=openat:signal=SIGKILL:when=1")
    probe = subprocess.run([*command, "-f", *options, "ls"], capture_output=True, text=True, check=False)
    return "" if probe.returncode < 0 else f"strace may not trace here: {probe.stderr.strip()}"


def _download(cache: Path) -> None:
    tools = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if tools:
        raise CannotTrace(f"strace is not installed, and can't be got without {tools[0]}")
    with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
        done = subprocess.run(
            ["apt-get", "download", "-q", *_PACKAGES],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise CannotTrace(f"strace is not installed, and can't be got: {done.stderr.strip()}")
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), f"{folder}/unpacked"], check=True)
        Path(folder, "unpacked").rename(cache)
