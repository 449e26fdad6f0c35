"""Finishing a build: write down what it is, make it durable, move it to where it can be switched in.

What doesn't live here: switching it in (`publish`), and whether it may be published; whoever has run the checks decides that.

The steps, each safe to be killed after: records and CHECKPOINT in the build's file → fsync → move into `builds/` → fsync →
its record beside it. With its record a build is finished; a file without one is cleared away by the next build.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from event_archive import __version__, durable
from event_archive.errors import EventArchiveError, StorageError, UsageError
from event_archive.warehouse import layout
from event_archive.warehouse.kept_digests import digest_marts
from event_archive.warehouse.record import BuildRecord, MartRecord, StreamRecord, write_record
from event_archive.warehouse.record_tables import write_record_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from event_archive.warehouse.build import Build

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class BuildSuperseded(EventArchiveError):
    """The build started from a state that is no longer the published one; it has to be run again."""


@dataclass(frozen=True)
class MadeBy:
    """By what, and of what, a build was made: what only whoever fills it knows.

    Attributes:
        built_by: Who or what built it.
        models: By model, a hash of its code and of all that has a part in it; kept for the next build to compare with.
        grains: By mart, the columns that tell its rows apart.
        dbt_invocation_id: Of the dbt run that filled it.
        as_of: What past state of the archive was asked for, in the asker's words.
        is_partial: Whether some tables hold less of the archive than the build has seen.
    """

    built_by: str
    models: Mapping[str, str] = field(default_factory=dict)
    grains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dbt_invocation_id: str | None = None
    as_of: str | None = None
    is_partial: bool = False


def finish(
    build: Build,
    made: MadeBy,
) -> BuildRecord:
    """Finish a build: complete, durable and with its record, but not switched in; readers see the published one as before.

    If it fails, the build is thrown away.

    Args:
        build: A build whose tables are complete and checked.
        made: By what and of what.

    Raises:
        BuildSuperseded: Another build has been published since this one was started.
        MartUnreadable: A mart reads what is not in the build's own file.
        StorageError: The disk is full or refused.
    """
    if build.record is not None:
        raise ValueError(f"Build {build.build_id} is finished already")
    try:
        refuse_if_superseded(build)
        record = _write_tables(build, made)
        _move_into_place(build, record)
    except (OSError, duckdb.Error) as error:
        withdraw(build, str(error))
        raise not_published(build, error) from error
    except BaseException as error:
        withdraw(build, str(error))
        raise
    build.record = record
    return record


def finish_into(
    build: Build,
    file: Path,
    made: MadeBy,
) -> BuildRecord:
    """Finish a build into a file of the user's, and end it; the warehouse stays as it is.

    The file is there whole or not at all, never in the place of another, and says of itself what any build does.

    Args:
        build: A build whose tables are complete and checked.
        file: Where to put it; must not exist, its folder must. May be on another file system.
        made: By what and of what.

    Raises:
        UsageError: There is a file of that name, or no such folder.
        MartUnreadable: A mart reads what is not in the build's own file.
        StorageError: The disk is full or refused.
    """
    try:
        record = _write_tables(build, made)
        build.file.chmod(0o444)
        durable.sync(build.file)
        _put(build.file, file)
    except FileExistsError as error:
        build.discard(f"{file} exists")
        raise UsageError(f"{file} exists already, and no file is ever replaced; name another one.") from error
    except FileNotFoundError as error:
        build.discard(f"there is no folder {file.parent}")
        raise UsageError(
            f"{file}: there is no folder {file.parent}; make it, or name another one."
        ) from error
    except (OSError, duckdb.Error) as error:
        build.discard(str(error))
        raise StorageError(
            f"{file} could not be written ({error}). Make room on the disk or give write access, then run it again."
        ) from error
    except BaseException as error:
        build.discard(str(error))
        raise
    build.end()
    return record


def refuse_if_superseded(build: Build) -> None:
    """Let nobody go on with a build whose base isn't the published build any more.

    Raises:
        BuildSuperseded: Another build has been published since this one was started, or its lock is gone.
        StorageError: There is a file where the link to the published build should be.
    """
    published = layout.current_build_id(build.warehouse)
    if published != build.based_on or not build.holds_the_lock():
        raise BuildSuperseded(
            f"Build {build.build_id} started from {build.based_on or 'an empty warehouse'}, but {published or 'nothing'} is "
            "published now or its lock is gone; it is not published. Run it again."
        )
    link = layout.current_link(build.warehouse)
    if link.exists() and not link.is_symlink():
        raise StorageError(
            f"{link} is a file, not the link that this warehouse makes; move it away, then run the build again."
        )


def withdraw(build: Build, reason: str) -> None:
    """Throw a build away, also one that is finished, unless it is the published one."""
    if layout.current_build_id(build.warehouse) != build.build_id:
        # The record first: a file without one is cleared away by the next build, should this be cut off here.
        with contextlib.suppress(OSError):
            layout.record_file(build.warehouse, build.build_id).unlink(missing_ok=True)
            layout.build_file(build.warehouse, build.build_id).unlink(missing_ok=True)
    build.discard(reason)


def not_published(build: Build, error: Exception) -> StorageError:
    """The sentence for a disk that refuses."""
    return StorageError(
        f"Build {build.build_id} could not be published ({error}); what was published stays as it is. "
        "Make room on the disk or give write access, then run it again."
    )


def _write_tables(build: Build, made: MadeBy) -> BuildRecord:
    hashes = dict(sorted(made.models.items()))
    with closing(duckdb.connect(str(build.file), config=dict(build.limits))) as connection:
        connection.execute("set timezone = 'UTC'")
        digests = digest_marts(connection, hashes)
        record = BuildRecord(
            build_id=build.build_id,
            mode=str(build.mode),
            built_by=made.built_by,
            project_version=__version__,
            dbt_invocation_id=made.dbt_invocation_id,
            based_on=build.based_on,
            as_of=made.as_of,
            started_at=build.started_at,
            finished_at=datetime.now(UTC),
            streams={
                name: StreamRecord(pinned.version, pinned.events, pinned.chain_hash)
                for name, pinned in sorted(build.streams.items())
            },
            marts=tuple(
                MartRecord(
                    mart=kept.mart,
                    rows=kept.sums.rows,
                    digest=kept.digest,
                    level=kept.level,
                    key=kept.key,
                    grain=_grain(kept.mart, list(kept.columns), made.grains),
                    code_hash=kept.code_hash,
                )
                for kept in digests
            ),
            models=hashes,
            is_partial=made.is_partial,
        )
        write_record_tables(connection, record, digests)
        connection.execute("checkpoint")
    left = build.file.with_name(build.file.name + ".wal")
    if left.exists():
        raise StorageError(
            f"DuckDB left {left} behind: another process has build {build.build_id} open. Close it, then run the build again."
        )
    return record


def _grain(mart: str, columns: Sequence[str], grains: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The columns that tell a mart's rows apart, as it spells them; none if what is said to be the grain are no columns of it."""
    spelled = {column.lower(): column for column in columns}
    grain = tuple(spelled.get(column.lower(), "") for column in grains.get(mart, ()))
    return grain if all(grain) else ()


def _move_into_place(build: Build, record: BuildRecord) -> None:
    file = layout.build_file(build.warehouse, build.build_id)
    durable.make_folder(file.parent)
    build.file.chmod(0o444)  # a finished build is never written again, by nobody
    durable.sync(build.file)
    build.file.rename(file)
    durable.sync(file.parent)
    write_record(build.warehouse, record)


def _put(source: Path, target: Path) -> None:
    """Give a durable file another name, or copy it there; fails if there is one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in {*_NO_LINKS, errno.EXDEV}:
            raise
        _copy(source, target)
    durable.sync(target.parent)


def _copy(source: Path, target: Path) -> None:
    pending = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    if target.exists():  # rather before copying than after it
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        durable.copy_file(source, pending)
        pending.chmod(0o444)
        durable.sync(pending)
        try:
            os.link(pending, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without links, such as FAT: take the name, then put the file under it.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            try:
                pending.replace(target)
            except OSError:
                target.unlink()
                raise
    finally:
        pending.unlink(missing_ok=True)
