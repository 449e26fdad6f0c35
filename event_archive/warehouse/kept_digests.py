"""The digests of a build's marts, from those of the build that it goes on from and the rows that have changed since.

What doesn't live here: how a digest is made (`digest`), and the tables that note what has changed: the models' macros write
them, in the schema `meta` of the build's file.

A digest is a sum, so the new one is the old one less the rows that went, plus those that came. A mart of entity or day level has
them in its change log; one of event level only ever gets rows of later commits. Whenever something isn't sure (no notes, other
columns or other code, computed in full since, a count that doesn't fit), the whole mart is read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from event_archive.errors import EventArchiveError
from event_archive.warehouse.digest import RowSums, digest_of, quoted, row_sums, table_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

log = logging.getLogger(__name__)

RECORDS = ("build_info", "build_streams", "build_marts", "build_models")
"""Tables in schema `main` by which a build says what it is; they are no marts."""


class MartUnreadable(EventArchiveError):
    """A mart reads something that is not in the build's own file, such as the archive."""


@dataclass(frozen=True)
class KeptDigest:
    """The digest of one mart, and what is needed to keep it up.

    Attributes:
        mart: Its name.
        columns: Type of each column, in order of their names.
        sums: What its rows add up to.
        level: `event`, `entity`, `day`, or None if not known.
        key: The columns by which the model is computed incrementally.
        version: Version of the model whose rows are counted; of a view, that of the table behind it.
        commit_version: The latest commit of which rows are counted; for event level only.
        code_hash: Of the code that made it, if known.
    """

    mart: str
    columns: dict[str, str]
    sums: RowSums
    level: str | None = None
    key: tuple[str, ...] = ()
    version: int | None = None
    commit_version: int | None = None
    code_hash: str | None = None

    @property
    def digest(self) -> str:
        """As 64 hexadecimal digits."""
        return digest_of(self.columns, self.sums).digest


@dataclass(frozen=True)
class _Model:
    """What the build's notes say of a mart's model; of a view over one event level table, what they say of that."""

    level: str | None
    key: tuple[str, ...]
    version: int
    full_at: int
    is_view: bool


def digest_marts(
    connection: duckdb.DuckDBPyConnection, code_hashes: Mapping[str, str] | None = None
) -> list[KeptDigest]:
    """Digest every table and view in schema `main`: what is published must be readable without anything beside it.

    Args:
        connection: A connection to the build's file; the time zone of its session is UTC.
        code_hashes: By mart, a hash of all the code that has a part in its rows. A view whose code isn't known is read whole.

    Raises:
        MartUnreadable: A view reads something that is not in the file.
    """
    import duckdb

    before = _recorded(connection)
    models = _models(connection)
    digests = []
    for name in _mart_names(connection):
        code_hash = (code_hashes or {}).get(name)
        try:
            digests.append(_digest(connection, name, models.get(name), before.get(name), code_hash))
        except (
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.ConversionException,
            duckdb.InvalidInputException,
        ) as error:
            raise MartUnreadable(
                f"The mart {name} could not be read by those who open the published file ({error}); nothing is published. "
                "A view in schema main may read only what is in the same file, and has to give its rows without an error."
            ) from error
    return digests


def _mart_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    names = connection.execute(
        "select table_name from information_schema.tables "
        "where table_catalog = current_database() and table_schema = 'main' and not list_contains(?, table_name) order by 1",
        [list(RECORDS)],
    ).fetchall()
    return [name for (name,) in names]


def _digest(
    connection: duckdb.DuckDBPyConnection,
    mart: str,
    model: _Model | None,
    before: KeptDigest | None,
    code_hash: str | None,
) -> KeptDigest:
    kept = KeptDigest(
        mart=mart,
        columns=table_columns(connection, "main", mart),
        sums=RowSums(0, 0, 0),
        level=model.level if model else None,
        key=model.key if model else (),
        version=model.version if model else None,
        code_hash=code_hash,
    )
    sums = _kept_up(connection, kept, model, before)
    if isinstance(sums, str):
        log.debug("The digest of %s is computed in full: %s", mart, sums)
        sums = row_sums(connection, f"main.{quoted(mart)}", kept.columns)
    latest = None
    if kept.level == "event" and "commit_version" in kept.columns:
        found = connection.execute(f"select max(commit_version) from main.{quoted(mart)}").fetchone()
        latest = found[0] if found else None
    return replace(kept, sums=sums, commit_version=latest)


def _kept_up(
    connection: duckdb.DuckDBPyConnection,
    mart: KeptDigest,
    model: _Model | None,
    before: KeptDigest | None,
) -> RowSums | str:
    """The old sums with what has changed since; or why that can't be told. The sums of `mart` aren't known yet."""
    if model is None or before is None or before.version is None:
        return "there is nothing to go on from"
    why_not = _why_not(mart, model, before, before.version)
    if why_not is not None:
        return why_not
    if model.version == before.version and not model.is_view:
        sums: RowSums | str = before.sums
    elif model.level == "event":
        sums = _with_later_commits(connection, before)
    else:
        sums = _with_changes(connection, before, before.version, model.version)
    if isinstance(sums, str):
        return sums
    counted = connection.execute(f"select count(*) from main.{quoted(mart.mart)}").fetchone()
    if counted != (sums.rows,):
        log.warning(
            "%s has other rows than its own notes of what has changed say; its digest is computed in full",
            mart.mart,
        )
        return "the rows don't fit"
    return sums


def _why_not(mart: KeptDigest, model: _Model, before: KeptDigest, version: int) -> str | None:
    reasons = {
        "its columns are others": before.columns != mart.columns,
        "its level or key is another": (before.level, before.key) != (mart.level, mart.key),
        "its code is another": before.code_hash != mart.code_hash,
        "it is a view of unknown code": model.is_view and mart.code_hash is None,
        "it was computed in full since": not model.full_at <= version <= model.version,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _with_later_commits(connection: duckdb.DuckDBPyConnection, before: KeptDigest) -> RowSums | str:
    if "commit_version" not in before.columns:
        return "its rows don't say their commit"
    if before.commit_version is None and before.sums.rows:
        return "it isn't known up to which commit its digest goes"
    latest = -1 if before.commit_version is None else before.commit_version
    later = f"commit_version > {latest:d}"
    return before.sums + row_sums(connection, f"main.{quoted(before.mart)}", before.columns, later)


def _with_changes(
    connection: duckdb.DuckDBPyConnection, before: KeptDigest, old_version: int, version: int
) -> RowSums | str:
    table = f"changes__{before.mart}"
    columns = before.columns
    if table_columns(connection, "meta", table) != {
        **columns,
        "change_version": "BIGINT",
        "is_added": "BOOLEAN",
    }:
        return "its change log isn't there or has other columns"
    changes = f"meta.{quoted(table)}"
    # What older runs have changed may have been cleared away: each of them has to be there, but for the last, which nothing has followed.
    found = connection.execute(
        f"select distinct change_version from {changes} where change_version > ? and change_version < ?",
        [old_version, version],
    ).fetchall()
    if len(found) != version - old_version - 1:
        return "its change log doesn't go back so far"
    since = f"change_version > {old_version:d}"
    removed = row_sums(connection, changes, columns, f"{since} and not is_added")
    added = row_sums(connection, changes, columns, f"{since} and is_added")
    return before.sums - removed + added


def _models(connection: duckdb.DuckDBPyConnection) -> dict[str, _Model]:
    """What the build's notes say of each relation in schema `main`; nothing if there are none."""
    if not _has(connection, "meta", "models", ("model", "schema_name", "materialized", "level", "version")):
        return {}
    rows = connection.execute(
        "select model, materialized, level, key, version, full_at, schema_name = 'main' from meta.models"
    ).fetchall()
    tables: dict[str, _Model] = {}
    views = []
    names = [name for name, *_ in rows]
    for name, materialized, level, key, version, full_at, is_mart in rows:
        if names.count(name) > 1 or version is None or full_at is None:
            continue
        if materialized == "view" and is_mart:
            views.append(name)
        elif materialized != "view":
            tables[name] = _Model(level, tuple(key or ()), version, full_at, is_view=False)
    found = {name: tables[name] for name, *_, is_mart in rows if is_mart and name in tables}
    if _has(connection, "meta", "inputs", ("model", "input")):
        for view in _plain(connection, views):
            inputs = connection.execute("select input from meta.inputs where model = ?", [view]).fetchall()
            behind = tables.get(inputs[0][0]) if len(inputs) == 1 else None
            # Rows of event level never change, so such a view of them only gets more of them.
            if behind is not None and behind.level == "event":
                found[view] = _Model("event", (), behind.version, behind.full_at, is_view=True)
    return found


def _plain(connection: duckdb.DuckDBPyConnection, views: list[str]) -> list[str]:
    """Those of which it is noted that they give each row of what they read once or not at all."""
    if not _has(connection, "meta", "plain_views", ("view",)):
        return []
    noted = {view for (view,) in connection.execute("select view from meta.plain_views").fetchall()}
    return [view for view in views if view in noted]


def _recorded(connection: duckdb.DuckDBPyConnection) -> dict[str, KeptDigest]:
    """The digests that the file has of an earlier build, as far as they can be gone on from."""
    wanted = (
        "mart",
        "digest",
        "rows",
        "columns",
        "types",
        "lower_sum",
        "upper_sum",
        "version",
        "commit_version",
    )
    if not _has(connection, "main", "build_marts", (*wanted, "level", "key", "code_hash")):
        return {}
    rows = connection.execute(
        f"select level, key, code_hash, {', '.join(wanted)} from main.build_marts"
    ).fetchall()
    found = {}
    for level, key, code_hash, mart, digest, *counted, columns, types, lower, upper, version, commit in rows:
        kept = KeptDigest(
            mart=mart,
            columns=dict(zip(columns, types, strict=False)),
            sums=RowSums(counted[0], lower, upper),
            level=level,
            key=tuple(key or ()),
            version=version,
            commit_version=commit,
            code_hash=code_hash,
        )
        if kept.digest == digest:
            found[mart] = kept
    return found


def _has(connection: duckdb.DuckDBPyConnection, schema: str, table: str, columns: Sequence[str]) -> bool:
    return set(columns) <= set(table_columns(connection, schema, table))
