"""Objects whose keys are data rather than names, such as prices by product: which these are, and which of their keys are names all the same.

What doesn't live here: the paths themselves (`scan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

MOST_PATHS = 4000
_MOST_KEYS = 500
_MOST_RARE_KEYS = {
    True: 500,
    False: 50,
}  # of the payload itself, whose types of events have fields of their own; of others
_RARE = 0.01


class WideObjects(Exception):
    """Objects were found to have too many keys after some of these had been taken for names."""


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables in which wide objects and those of their keys that are names are noted."""
    connection.execute("create or replace temp table wide (path varchar)")
    connection.execute("create or replace temp table names (path varchar, key varchar)")


def find(connection: duckdb.DuckDBPyConnection, found: str, paths: int) -> list[str]:
    """Which objects have too many keys for each to be a name, and notes them.

    An object is wide if more than fifty of its keys are rare (in less than one of a hundred of these objects), or if it has more than
    five hundred. Its frequent keys stay names. If there are too many paths altogether, the bound on keys is lowered.

    Args:
        connection: Has the tables of `prepare`.
        found: A table or query with the columns parent, key, events, objects: how many events have the key, how many the parent.
        paths: How many paths there are already, others than these.

    Returns:
        Paths of the objects that are wide and weren't noted yet.
    """
    new: list[str] = []
    most = _MOST_KEYS
    is_rare = f"(events < {_RARE} * objects or (events = 1 and objects > 1))"
    while True:
        wide = [
            str(path)
            for (path,) in connection.execute(
                f"select parent from ({found}) where parent not in (from wide) group by parent having count(*) > {most} "
                f"or count(*) filter (where {is_rare}) > case when parent = '$' then {_MOST_RARE_KEYS[True]} "
                f"else {_MOST_RARE_KEYS[False]} end order by parent"
            ).fetchall()
        ]
        _note(connection, found, wide, most)
        new += wide
        row = connection.execute(
            f"select count(*) from ({found}) where parent not in (from wide) or (parent, key) in (from names)"
        ).fetchone()
        if row is None or row[0] + paths <= MOST_PATHS or most == 0:
            return new
        most //= 4


def _note(connection: duckdb.DuckDBPyConnection, found: str, wide: Iterable[str], most: int) -> None:
    for path in wide:
        connection.execute(
            f"insert into names select parent, key from ({found}) "
            f"where parent = $path and events >= {_RARE} * objects and (events > 1 or objects = 1) "
            f"order by events desc, key limit {most}",
            {"path": path},
        )
        connection.execute("insert into wide values ($path)", {"path": path})
