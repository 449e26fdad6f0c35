"""What a build is made of, as tables in schema `main` of its own file: `build_info`, `build_streams`, `build_marts`, `build_models`.

What doesn't live here: the same facts as a file that outlives the build (`record`), and how digests are made (`kept_digests`).
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import duckdb

from event_archive.warehouse.digest import quoted
from event_archive.warehouse.kept_digests import RECORDS
from event_archive.warehouse.record import BuildRecord, BuildUnreadable, MartRecord, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from event_archive.warehouse.kept_digests import KeptDigest

_TABLES = {
    "build_info": (
        "build_id varchar, mode varchar, built_by varchar, project_version varchar, dbt_invocation_id varchar, "
        "based_on varchar, as_of varchar, started_at timestamptz, finished_at timestamptz, is_partial boolean"
    ),
    "build_streams": "stream varchar, version bigint, events bigint, chain_hash varchar",
    # The second line is what the next build needs to go on from these digests.
    "build_marts": (
        "mart varchar, rows bigint, digest varchar, level varchar, key varchar[], grain varchar[], code_hash varchar, "
        "version bigint, commit_version bigint, columns varchar[], types varchar[], lower_sum hugeint, upper_sum hugeint"
    ),
    "build_models": "model varchar, state_hash varchar",
}


def write_marts(
    connection: duckdb.DuckDBPyConnection, marts: Sequence[MartRecord], digests: Sequence[KeptDigest]
) -> None:
    """Write `build_marts`: each mart's digest, and what the next build needs to go on from it.

    Args:
        connection: A connection to the build's file.
        marts: The marts.
        digests: Their digests, in the same order.
    """
    rows = [
        [
            *(
                mart.mart,
                mart.rows,
                mart.digest,
                mart.level,
                list(mart.key),
                list(mart.grain),
                mart.code_hash,
            ),
            *(kept.version, kept.commit_version, list(kept.columns), list(kept.columns.values())),
            *(kept.sums.lower, kept.sums.upper),
        ]
        for mart, kept in zip(marts, digests, strict=True)
    ]
    _replace(connection, "build_marts", rows)


def write_record_tables(
    connection: duckdb.DuckDBPyConnection, record: BuildRecord, digests: Sequence[KeptDigest]
) -> None:
    """Write what a build is into its file; what an earlier build has said there goes.

    Args:
        connection: A connection to the build's file.
        record: The build.
        digests: Of its marts, in the same order.
    """
    info = [
        *(record.build_id, record.mode, record.built_by, record.project_version, record.dbt_invocation_id),
        *(record.based_on, record.as_of, record.started_at, record.finished_at, record.is_partial),
    ]
    _replace(connection, "build_info", [info])
    streams = record.streams.items()
    _replace(
        connection,
        "build_streams",
        [[name, seen.version, seen.events, seen.chain_hash] for name, seen in streams],
    )
    write_marts(connection, record.marts, digests)
    _replace(connection, "build_models", [[name, state] for name, state in record.models.items()])


def read_build(file: Path) -> BuildRecord:
    """Read what a finished build says about itself.

    Args:
        file: The build's file.

    Raises:
        BuildUnreadable: The file is no build of a warehouse, or is damaged.
    """
    try:
        with closing(duckdb.connect(str(file), read_only=True)) as connection:
            return read_record_tables(connection)
    except (duckdb.Error, IndexError, ValueError) as error:
        raise BuildUnreadable(
            f"{file} is no readable build of the warehouse ({error}); run a rebuild: it makes every table again from the archive."
        ) from error


def read_record_tables(connection: duckdb.DuckDBPyConnection) -> BuildRecord:
    """Read what a build says about itself over a connection to its file.

    Raises:
        duckdb.Error: The tables aren't there.
        IndexError: They are empty.
    """
    connection.execute("set timezone = 'UTC'")
    info = connection.execute(
        "select build_id, mode, built_by, project_version, dbt_invocation_id, based_on, as_of, started_at::timestamp, "
        "finished_at::timestamp, is_partial from main.build_info"
    ).fetchall()[0]
    streams = connection.execute(
        "select stream, version, events, chain_hash from main.build_streams order by stream"
    ).fetchall()
    marts = connection.execute(
        "select mart, rows, digest, level, key, grain, code_hash from main.build_marts order by mart"
    ).fetchall()
    models = connection.execute("select model, state_hash from main.build_models order by model").fetchall()
    *texts, started_at, finished_at, is_partial = info
    build_id, mode, built_by, project_version, dbt_invocation_id, based_on, as_of = texts
    return BuildRecord(
        build_id=build_id,
        mode=mode,
        built_by=built_by,
        project_version=project_version,
        dbt_invocation_id=dbt_invocation_id,
        based_on=based_on,
        as_of=as_of,
        started_at=started_at.replace(tzinfo=UTC),
        finished_at=finished_at.replace(tzinfo=UTC),
        streams={name: StreamRecord(*seen) for name, *seen in streams},
        marts=tuple(
            MartRecord(mart, rows, digest, level, tuple(key), tuple(grain), code_hash)
            for mart, rows, digest, level, key, grain, code_hash in marts
        ),
        models=dict(models),
        is_partial=is_partial,
    )


def _replace(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    assert table in RECORDS  # noqa: S101 - the marts' digests leave out exactly these
    columns = _TABLES[table]
    connection.execute(f"drop table if exists main.{quoted(table)}")
    connection.execute(f"create table main.{quoted(table)} ({columns})")
    if rows:
        places = ", ".join("?" for _ in rows[0])
        connection.executemany(
            f"insert into main.{quoted(table)} values ({places})", [list(row) for row in rows]
        )
