"""Limits that the operating system sets on this process, for whatever the database engine doesn't hold to by itself.

DuckDB's `memory_limit` counts its buffers, not every allocation: one text of 20 GB is beyond it. And a file that it may read it may
also write. What doesn't live here: DuckDB's own settings (`sandbox`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

# Linux: include/uapi/linux/landlock.h, and the numbers of its system calls, which are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_WRITE_FILE = 1 << 1
# Remove and make of folders, files, devices, sockets, FIFOs and links: bits 4 to 12. The first version of Landlock has them all.
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
_REMOVE_DIR = 1 << 4
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_VERSION_WITH_REFER, _VERSION_WITH_TRUNCATE = 2, 3


def limit_process_memory(memory_bytes: int) -> None:
    """Limit the memory that this process may allocate; beyond it an allocation fails, and with it the query, not the machine.

    Counted are the pages that it may write to and doesn't share, used or not (RLIMIT_DATA): the limit should be about 1 GB more
    than DuckDB's `memory_limit`. An existing lower limit stays.

    Args:
        memory_bytes: The limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        memory_bytes = min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, hard))


def forbid_writes(folder: Path) -> bool:
    """Have the kernel refuse this process every change of files outside of one folder, for good (Landlock).

    It holds for this thread and for those started later, so it comes before DuckDB's first connection. Files that are
    already open, standard output among them, can still be written; so can /dev/null. The folder itself can be removed.

    Args:
        folder: An existing folder in which files may be written.

    Returns:
        Whether it holds: Landlock needs Linux 5.13 or later, and to be enabled there.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    if version < 1:
        return False
    write = _WRITE_FILE | (_TRUNCATE if version >= _VERSION_WITH_TRUNCATE else 0)
    everything = write | _CHANGE_FOLDER | (_REFER if version >= _VERSION_WITH_REFER else 0)
    attributes = ctypes.create_string_buffer(struct.pack("=Q", everything), 8)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    try:
        for path, rights in ((folder, everything), (folder.parent, _REMOVE_DIR), (Path(os.devnull), write)):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
                if libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0) != 0:
                    return False
            finally:
                os.close(descriptor)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return int(libc.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    finally:
        os.close(ruleset)
