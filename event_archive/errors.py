"""Every error that this library raises on purpose, and what a caller can do about it.

    EventArchiveError            one sentence for a person: what happened, where, what to do
    ├── UsageError               the command or its arguments are wrong; repeating does not help      (exit 2)
    │   ├── ConfigurationError   a key of event_archive.yaml is wrong or missing
    │   └── QueryRefused         SQL that may not be run over the archive
    ├── ArchiveDamaged           the archive is not what its own log says it must be                  (exit 1)
    ├── CopyRefused              the target of a copy has commits that the source hasn't          (copying)
    ├── CommitConflict           another writer committed first; re-read positions and try again      (retry helps)
    ├── SourceProblem            one file or partition can't be read as it is; others can
    │   ├── Changed              it is not any more what was archived of it       (sources.files.reading)
    │   └── Damaged              a compressed file is damaged or cut              (sources.files.decompression)
    ├── SourceUnavailable        nobody answers where the source should be            (retry may help)
    ├── StorageError             the disk or the network refused (full, read-only, gone)              (retry may help)
    │   └── FileMissing          a file isn't there
    ├── WarehouseBusy            another build is under way                       (warehouse.build)   (retry helps)
    ├── BuildSuperseded          a newer build was published meanwhile            (warehouse.publish) (retry helps)
    ├── BuildUnreadable          a published build is damaged; rebuild            (warehouse.publish)
    └── MartUnreadable           a table of a build can't be read; rebuild        (warehouse.publish)

Nothing is formatted for a terminal here: `event_archive.cli` does that.
"""

from __future__ import annotations


class EventArchiveError(Exception):
    """Base of all errors that this library raises on purpose; its text is one sentence for a person."""


class UsageError(EventArchiveError):
    """The command or its arguments are wrong; repeating it does not help."""


class ConfigurationError(UsageError):
    """A key of the configuration file is wrong or missing; the text names file, key and remedy."""


class QueryRefused(UsageError):
    """A statement that may not be run over the archive."""


class ArchiveDamaged(EventArchiveError):
    """The archive is not what its own log says it must be; nothing may be built on it until it is repaired."""


class CommitConflict(EventArchiveError):
    """Another writer committed this version first: the batch is void, positions must be read again."""


class SourceProblem(EventArchiveError):
    """One file or partition of a source can't be read as it is; the others can."""


class SourceUnavailable(EventArchiveError):
    """The source doesn't answer; nothing is wrong with what is archived, and trying again later may help."""


class StorageError(EventArchiveError):
    """The file system or object store refused an operation."""


class FileMissing(StorageError):
    """A file isn't there."""
