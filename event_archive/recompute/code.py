"""Hashes of the code of a dbt project: of a model's, all that says what its rows are, and of a check's, all that says when it passes.

What doesn't live here: what a model or a check reads, whose code counts too (`project`, `noted_checks`).
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from event_archive.sql.views import archive_select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DBTS_OWN = {"dbt", "dbt_duckdb"}
# What dbt calls by itself, so that nothing is known to depend on it.
_CALLED_BY_MODELS = ("should_full_refresh", "ref", "generate_schema_name")
_CALLED_BY_CHECKS = ("get_where_subquery", "ref")
_CONFIG_OF_MODELS = (
    "materialized",
    "incremental_strategy",
    "unique_key",
    "meta",
    "full_refresh",
    "on_schema_change",
    "sql_header",
    "pre-hook",
    "post-hook",
)
_UNIT_TEST = ("model", "given", "expect", "overrides", "config")
_SURROUNDINGS = re.compile(r"\b(env_var|modules\.datetime|modules\.pytz|run_started_at|invocation_id)\b")
_VARIABLE = re.compile(r"\bvar\s*\(")


class Code:
    """What code of a project has in common: its macros, its variables, and what the archive gives."""

    def __init__(self, macros: Mapping[str, Mapping[str, Any]], variables: Any) -> None:
        self._macros = {
            unique_id: macro for unique_id, macro in macros.items() if macro["package_name"] not in _DBTS_OWN
        }
        self._named: dict[str, list[str]] = {}
        for unique_id, macro in self._macros.items():
            self._named.setdefault(macro["name"], []).append(unique_id)
        self._variables = json.dumps(variables, sort_keys=True, default=str)
        # The envelope, and what counts as JSON.
        self._archive = archive_select(("/",), with_payload=True)

    def hash_of_model(self, node: Mapping[str, Any]) -> str:
        """SHA-256 of a model's text, configuration, contract, and of the macros that it uses.

        Args:
            node: What the manifest says of it.
        """
        config = node["config"]
        strategy = f"get_incremental_{config.get('incremental_strategy')}_sql"
        used = self._used([*node.get("depends_on", {}).get("macros", []), *_CALLED_BY_MODELS, strategy])
        text = node.get("raw_code", "")
        code = {
            "text": text,
            "file": node["checksum"]["checksum"] if node["resource_type"] == "seed" else "",
            "config": {name: config.get(name) for name in _CONFIG_OF_MODELS},
            "columns": {name: column.get("data_type") for name, column in node["columns"].items()}
            if config.get("contract", {}).get("enforced")
            else {},
            "macros": used,
            "archive": self._archive,
        }
        if any(_VARIABLE.search(part) for part in (text, *used.values())):
            code["vars"] = self._variables
        return _sha256(code)

    def hash_of_data_test(self, node: Mapping[str, Any]) -> str:
        """SHA-256 of a data test's text, arguments, configuration, and of the macros that it uses."""
        return _sha256(
            {
                "text": node["raw_code"],
                "arguments": (node.get("test_metadata") or {}).get("kwargs"),
                "config": node["config"],
                "macros": self._used([*node["depends_on"]["macros"], *_CALLED_BY_CHECKS]),
                "archive": self._archive,
                "vars": self._variables,
            }
        )

    def hash_of_unit_test(self, node: Mapping[str, Any]) -> str:
        """SHA-256 of what a unit test gives and expects."""
        return _sha256({name: node[name] for name in _UNIT_TEST})

    def surroundings_of_model(self, node: Mapping[str, Any]) -> list[str]:
        """What a model's text, or a macro that it uses, takes from where and when it is compiled: no hash holds that."""
        texts = [node.get("raw_code", ""), *self._used(node.get("depends_on", {}).get("macros", [])).values()]
        return sorted({found for text in texts for found in _SURROUNDINGS.findall(text)})

    def _used(self, names: Iterable[str]) -> dict[str, str]:
        """The texts of macros, given by id or by name, and of all that they call; dbt's own are left out."""
        used: dict[str, str] = {}
        waiting = [
            unique_id
            for name in names
            for unique_id in ([name] if name in self._macros else self._named.get(name, []))
        ]
        while waiting:
            unique_id = waiting.pop()
            if unique_id in self._macros and unique_id not in used:
                used[unique_id] = self._macros[unique_id]["macro_sql"]
                waiting += self._macros[unique_id]["depends_on"]["macros"]
        return used


def _sha256(code: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(code, sort_keys=True, default=str).encode()).hexdigest()
