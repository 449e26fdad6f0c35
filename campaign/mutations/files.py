"""Bugs that lose or double lines of files."""

from __future__ import annotations

from campaign.mutations.bug import a_bug

FILES = "tests/event_archive/test_files_exactly_once.py"
DAMAGED_FILES = "tests/event_archive/test_damaged_and_large_files.py"
ODD = "tests/event_archive/test_odd_cases.py"
REPLAY = "tests/event_archive/test_replay.py"

FILES_EXACTLY_ONCE = (
    a_bug(
        "positions of files ignored",
        "event_archive/sources/files/batches.py",
        "state = positions.by_path.get(file.path)\n",
        "state = None\n",
        FILES,
    ),
    a_bug(
        "what a file began with is not compared",
        "event_archive/sources/files/reading.py",
        "if self._hash.hexdigest() != before.sha256:",
        "if False:",
        FILES,
    ),
    a_bug(
        "an open last line is taken at once",
        "event_archive/sources/files/reading.py",
        " and is_still(now.st_mtime_ns, self._settings.settle_seconds):\n",
        ":\n",
        FILES,
    ),
    a_bug(
        "half a line is taken while its file is being written",
        "event_archive/sources/files/reading.py",
        "        if rest and was_left_alone and",
        "        if rest and",
        ODD,
    ),
    a_bug(
        "carriage returns dropped",
        "event_archive/sources/files/lines.py",
        "    return Lines(values, ",
        '    values = pa.array([value.as_py().removesuffix(b"\\r") for value in values], pa.binary())\n    return Lines(values, ',
        FILES,
    ),
    a_bug(
        "damage of a compressed file swallowed",
        "event_archive/sources/files/ingest.py",
        "            if finished.state.is_damaged:\n",
        "            if False:\n",
        DAMAGED_FILES,
        "-m",
        "not slow",
    ),
    a_bug(
        "links are followed out of the landing folder",
        "event_archive/sources/files/landing.py",
        "if target != root and not target.startswith",
        "if False and not target.startswith",
        FILES,
    ),
    a_bug(
        "blank lines forgotten",
        "event_archive/sources/files/positions.py",
        "if not len(blank_before):",
        "if True:",
        REPLAY,
    ),
)
