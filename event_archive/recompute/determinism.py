"""What a model must not use, because its rows would depend on when, in what order or by how many threads they are computed.

It is told from the syntax tree that DuckDB gives of the SQL that dbt has run. What can't be told from it (two rows that tie in what orders
them, say) is told by comparing rebuilds: `event-archive rebuild` and `event-archive diff`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from event_archive.errors import EventArchiveError
from event_archive.recompute.syntax import is_qualified, name_of, nodes_of, parsed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from event_archive.recompute.dbt import DbtRun
    from event_archive.recompute.project import Project

_CLOCK = frozenset(
    {"now", "today", "get_current_timestamp", "get_current_time", "current_timestamp"}
    | {"current_date", "current_time", "transaction_timestamp", "current_localtimestamp"}
    | {"current_localtime", "localtimestamp", "localtime", "txid_current"}
)
_CHANCE = frozenset(
    {"random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "nextval", "currval"}
)
_PLACE = frozenset(
    {"getenv", "current_setting", "version", "current_user", "current_database", "current_schema"}
)
_CLOCK_WORDS = [[name] for name in sorted(_CLOCK - {"now", "today"})]
_PLACE_WORDS = [["current_user"], ["current_schema"], ["current_database"], ["session_user"], ["user"]]
_OUTSIDE = frozenset(
    {
        "read_csv",
        "read_csv_auto",
        "read_json",
        "read_json_auto",
        "read_ndjson",
        "read_parquet",
        "parquet_scan",
    }
    | {"read_text", "read_blob", "glob", "sniff_csv", "read_xlsx", "iceberg_scan", "delta_scan"}
)
_VERSION = frozenset({"hash"})
_ESTIMATES = frozenset(
    {"approx_quantile", "approx_count_distinct", "approx_top_k", "reservoir_quantile", "approx_percentile"}
)
_FLOATING = frozenset(
    {"avg", "mean", "fsum", "kahan_sum", "sumkahan", "favg", "product", "geomean"}
    | {"geometric_mean", "median", "quantile_cont", "stddev", "stddev_pop", "stddev_samp"}
    | {"var_pop", "var_samp", "variance", "corr", "covar_pop", "covar_samp", "skewness"}
    | {"kurtosis", "kurtosis_pop", "entropy", "sem", "regr_slope", "regr_intercept", "regr_r2"}
    | {"mad", "regr_avgx", "regr_avgy", "regr_sxx", "regr_sxy", "regr_syy"}
)
_NEVER = {
    _CHANCE: "it gives something else each time; make keys of the event's own, by md5, say.",
    _PLACE: "it depends on where it runs.",
    _OUTSIDE: "it reads what isn't in the archive; make it a stream, or a seed.",
    _VERSION: "it may give something else in the next version of DuckDB; use md5.",
    _ESTIMATES: "estimates depend on the order of rows; use the exact function.",
    _FLOATING: "it adds floating point numbers, whose sum depends on their order; use sums of decimals or integers.",
}
"""Functions that no model needs, and why not."""
_NEEDS_ORDER = frozenset(
    {"any_value", "arbitrary", "first", "last", "list", "array_agg", "string_agg"}
    | {"group_concat", "listagg", "mode"}
    | {"json_group_array", "json_group_object", "json_group_structure"}
)
_BY_ANOTHER = frozenset(
    {"arg_max", "arg_min", "argmax", "argmin", "max_by", "min_by", "arg_max_null"} | {"arg_min_null"}
)
_WINDOWS_WITH_ORDER = frozenset(
    {"WINDOW_ROW_NUMBER", "WINDOW_FIRST_VALUE", "WINDOW_LAST_VALUE", "WINDOW_NTH_VALUE"}
    | {"WINDOW_LEAD", "WINDOW_LAG", "WINDOW_NTILE"}
)
_FILE = re.compile(r"[./*]")
"""In what stands where a table does, of a file that DuckDB would read."""
_FLOAT_TYPES = frozenset({"double", "float", "real", "float4", "float8"})
_SUMS = frozenset({"sum", "total", "cumsum"})
_TIE_BREAKERS = frozenset({"event_id", "source_offset"})
CHECKED_BY_HAND = "checked_by_hand"
"""Key in a model's meta: a list of what it uses all the same, because somebody has seen that it does no harm there."""


class ModelGuesses(EventArchiveError):
    """A model uses what makes its rows depend on more than the events; the text names model, part and remedy."""


@dataclass(frozen=True)
class Guess:
    """A part of a model on which its rows must not depend.

    Attributes:
        what: The function, or the kind of part.
        why: Why not, and what to write instead.
    """

    what: str
    why: str


def refuse_guesses(project: Project, ran: DbtRun) -> None:
    """Look at the SQL of every model that dbt has built.

    Raises:
        ModelGuesses: One of them uses what makes its rows depend on more than the events.
    """
    sentences = []
    for model in project.models.values():
        sql = ran.results.get(model.unique_id, {}).get("compiled_code")
        if sql:
            sentences += [
                f"{model.name} uses {guess.what}: {guess.why}"
                for guess in guesses(sql, model.checked_by_hand)
            ]
    if sentences:
        raise ModelGuesses(
            "The published tables stay as they were: these would not come out the same each time.\n"
            + "\n".join(sentences)
            + f"\nWhere it does no harm, say so in the model: config(meta={{'{CHECKED_BY_HAND}': ['…']}})."
        )


def guesses(sql: str, checked_by_hand: Collection[str] = ()) -> list[Guess]:
    """Find what a query's rows must not depend on.

    Args:
        sql: One SELECT, as dbt has compiled it.
        checked_by_hand: What may be used all the same, by name.
    """
    try:
        return _guesses(sql, checked_by_hand)
    except RecursionError:
        what = "an expression of hundreds of parts"
        return [] if what in checked_by_hand else [Guess(what, "it can't be looked through; split it.")]


def _guesses(sql: str, checked_by_hand: Collection[str]) -> list[Guess]:
    tree = parsed(sql)
    # No SELECT, or of a syntax that can't be serialised: dbt has run it, so it isn't ours to refuse.
    if tree is None:
        return []
    nodes = list(nodes_of(tree))
    unique = _TIE_BREAKERS | {
        node["alias"].lower()
        for node in nodes
        if node.get("type") == "WINDOW_ROW_NUMBER" and node.get("alias")
    }
    # `interval 1 day` is to_days(cast(trunc(cast(1 as double)) as integer)).
    of_intervals = {id(part) for node in nodes if name_of(node) == "trunc" for part in _arguments(node)}
    found: dict[Guess, None] = {}
    for node in nodes:
        if id(node) in of_intervals:
            continue
        for guess in (*_of_node(node, unique), *_of_relation(node)):
            if guess.what not in checked_by_hand:
                found[guess] = None
    return list(found)


def _of_node(node: dict[str, Any], unique: Collection[str]) -> Iterator[Guess]:
    if node.get("class") in ("FUNCTION", "WINDOW"):
        yield from _of_function(node, unique)
    elif node.get("class") == "CAST":
        name = _type_name(node)
        if name in _FLOAT_TYPES:
            yield Guess(
                name, "sums of floating point numbers depend on their order; use decimal(38, 9), say."
            )
    elif node.get("class") == "COLUMN_REF":
        yield from _of_column([str(name).lower() for name in node["column_names"]])


def _of_relation(node: dict[str, Any]) -> Iterator[Guess]:
    if node.get("type") == "BASE_TABLE" and _FILE.search(name_of(node)) and not is_qualified(node):
        yield Guess(name_of(node), _NEVER[_OUTSIDE])
    if node.get("ref_type") == "POSITIONAL":
        yield Guess("positional join", "it pairs rows as they happen to lie; join by a key.")
    if node.get("sample"):
        yield Guess("sample", "each time it takes other rows; filter by md5 of a key.")
    if "modifiers" in node:
        kinds = [modifier["type"] for modifier in node["modifiers"]]
        if any(kind.startswith("LIMIT") for kind in kinds) and "ORDER_MODIFIER" not in kinds:
            yield Guess("limit", "without an order it takes any rows; order them first, by what has no ties.")
        if any(modifier.get("distinct_on_targets") for modifier in node["modifiers"]):
            yield Guess(
                "distinct on", "it takes any row of each group; use row_number() over an order without ties."
            )


def _of_column(path: list[str]) -> Iterator[Guess]:
    """Of a name that stands for a column, or alone, for a function without parentheses."""
    if path[-1] == "rowid":
        yield Guess("rowid", "it tells how rows happen to lie; use a column of the event.")
    elif path in _CLOCK_WORDS:
        yield _clock(path[0])
    elif path in _PLACE_WORDS:
        yield Guess(path[0], _NEVER[_PLACE])


def _of_function(node: dict[str, Any], unique: Collection[str]) -> Iterator[Guess]:
    name = name_of(node)
    arguments = _arguments(node)
    if name in _CLOCK or (name == "age" and len(arguments) == 1):
        yield _clock(name)
    for names, why in _NEVER.items():
        if name in names:
            yield Guess(name, why)
    if name in _NEEDS_ORDER and not _orders(node):
        yield Guess(
            name,
            f"it depends on the order of rows; give it one without ties: {name}(… order by …, event_id).",
        )
    if name in _BY_ANOTHER and len(arguments) > 1 and not _breaks_ties(arguments[1:2], unique):
        yield Guess(
            name,
            "where two rows tie it takes any; order by a row_number() whose order ends with event_id.",
        )
    if name in _SUMS and any(name_of(part) == "/" for part in nodes_of(arguments, within_casts=False)):
        yield Guess(
            f"{name} of a quotient", "a quotient is a floating point number; cast it to a decimal first."
        )
    counts_rows = any(str(node.get(end, "")).endswith("_ROWS") for end in ("start", "end"))
    if (
        node["type"] in _WINDOWS_WITH_ORDER
        or (node["class"] == "WINDOW" and name in _WINDOW_NAMES)
        or (node["class"] == "WINDOW" and counts_rows)
    ):
        yield from _of_order(name, [order["expression"] for order in node.get("orders") or []], unique)


def _of_order(name: str, orders: list[dict[str, Any]], unique: Collection[str]) -> Iterator[Guess]:
    if not orders:
        yield Guess(f"{name} over", "it has no order.")
    elif not _breaks_ties(orders, unique):
        yield Guess(f"{name} over", "where two rows tie they come in any order; end the order with event_id.")


_WINDOW_NAMES = frozenset({"row_number", "first_value", "last_value", "nth_value", "lead", "lag", "ntile"})


def _breaks_ties(orders: list[dict[str, Any]], unique: Collection[str]) -> bool:
    """Whether one of the columns is known to be different in each row."""
    return any(
        order.get("class") == "COLUMN_REF" and str(order["column_names"][-1]).lower() in unique
        for order in orders
    )


def _orders(node: dict[str, Any]) -> bool:
    return bool((node.get("order_bys") or {}).get("orders")) or bool(node.get("arg_orders"))


def _clock(name: str) -> Guess:
    return Guess(name, "tomorrow it gives something else; use ingested_at, or a time of the event.")


def _arguments(node: dict[str, Any]) -> list[dict[str, Any]]:
    """What stands in a function's parentheses, as both versions of DuckDB put it."""
    return [
        argument.get("expression", argument)
        for argument in node.get("arguments") or node.get("children") or []
    ]


def _type_name(node: dict[str, Any]) -> str:
    kind = node.get("type_expr") or node.get("cast_type") or {}
    path = (kind.get("qualified_name") or {}).get("path") or [kind.get("type_name") or kind.get("id") or ""]
    return str(path[-1]).lower()
