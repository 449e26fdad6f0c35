"""From what payloads say to the columns of a staging model: which fields there are, of which type, and which events must have them.

What doesn't live here: what payloads say (`event_archive.schema`), and writing models (`staging`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from event_archive.errors import UsageError
from event_archive.scaffold.examples import NUMERIC
from event_archive.scaffold.naming import column_names
from event_archive.schema.expressions import LONGEST_KEY, bit, json_path, keys_of
from event_archive.schema.model import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from event_archive.scaffold.examples import Example
    from event_archive.schema.model import PathFacts, StreamSchema

ALWAYS = 0.999
"""What at least this share of the events has is required: of the rest somebody should hear, and they are rejected, with the reason."""
_CLEAR = 0.9
_FORMAT_CLEAR = 0.99
_RARE = 0.001
_RARE_TYPE = 0.0002
_FEW = 100
_MOST_COLUMNS = 200
_CENTS = 2

DATA_TYPES = {
    "string": "varchar",
    "integer": NUMERIC["integer"],
    "amount": NUMERIC["amount"],
    "number": NUMERIC["number"],
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "date": "date",
    "json": "varchar",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a staging model.

    Attributes:
        name: Of the column.
        path: In the JSON, as the macros take it.
        type: One of `DATA_TYPES`.
        required_by: Types of events that must have it, or "all".
        optional_for: Types of events that may have it, or "all".
        observed: What was seen of it, in words.
        examples: Some of its values.
    """

    name: str
    path: str
    type: str
    required_by: tuple[str, ...] | str
    optional_for: tuple[str, ...] | str
    observed: str
    examples: tuple[str, ...] = ()

    @property
    def is_always_there(self) -> bool:
        """Whether every event must have it."""
        return self.required_by == "all"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a staging model.

    Attributes:
        fields: From the payload, the event's id and type first.
        event_types: Values of the column event_type; empty if events have no types.
        has_event_id: Whether a field is the event's id; else its position in the archive is.
        left_out: What isn't a column, and why.
        partly_rejected: Columns of which some events have another type, so that they are rejected.
    """

    fields: tuple[Field, ...]
    event_types: tuple[str, ...]
    has_event_id: bool
    left_out: tuple[str, ...]
    partly_rejected: tuple[str, ...] = ()


@dataclass(slots=True)
class _Inference:
    schema: StreamSchema
    examples: Mapping[str, Example]
    nulls: Mapping[tuple[str, str | None], int]
    objects: int
    types: tuple[str, ...]
    left_out: list[str] = field(default_factory=list)

    def chosen(self) -> list[tuple[PathFacts, str]]:
        """Paths that become columns, with their types."""
        found: list[tuple[PathFacts, str]] = []
        nested: set[tuple[str | None, ...]] = {()}  # objects whose fields have columns of their own
        for facts in sorted(self.schema.paths, key=lambda facts: len(facts.keys)):
            if not facts.keys or facts.keys[:-1] not in nested or facts.keys[-1] is None:
                continue
            if facts.keys[-1] in ("", "*"):
                self.left_out.append(f"{facts.path}: such a name can't be asked for")
                continue
            if len(facts.keys[-1]) > LONGEST_KEY:
                self.left_out.append(f"{facts.path}: its name is too long to be asked for")
                continue
            if self._is_rare(facts):
                self.left_out.append(f"{facts.path}: in {facts.events:,} events only")
                continue
            kind = self._type(facts)
            if kind == "object":
                nested.add(facts.keys)
            else:
                found.append((facts, kind))
        return found

    def _is_rare(self, facts: PathFacts) -> bool:
        if any(facts.types.get(name, 0) >= self.schema.types[name] / 2 for name in self.types):
            return False
        return facts.share < _RARE

    def _type(self, facts: PathFacts) -> str:
        """Type of a column; `object` if its fields have columns instead."""
        counts = {kind: events for kind, events in facts.kinds.items() if kind != "null"}
        total = sum(counts.values())
        strings = sum(events for kind, events in counts.items() if kind in FORMATS or kind == "string")
        numbers = counts.get("integer", 0) + counts.get("number", 0)
        if not total:
            return "json"
        if counts.get("object", 0) >= _CLEAR * total:
            children = [other for other in self.schema.paths if other.keys[:-1] == facts.keys and other.keys]
            return "object" if children and all(child.keys[-1] is not None for child in children) else "json"
        if strings >= _CLEAR * total:
            clear = [kind for kind in ("timestamp", "date") if counts.get(kind, 0) >= _FORMAT_CLEAR * strings]
            return clear[0] if clear else "string"
        if numbers >= _CLEAR * total:
            return self._number(facts, counts)
        if counts.get("boolean", 0) >= _CLEAR * total:
            return "boolean"
        return "json"

    def _number(self, facts: PathFacts, counts: Mapping[str, int]) -> str:
        example = self.examples.get(facts.path)
        whole = counts.get("integer", 0) >= ALWAYS * (counts.get("integer", 0) + counts.get("number", 0))
        if example is None:
            return "integer" if whole else "number"
        # Of types that can hold the values, the narrowest; if some few aren't held they are rejected, and somebody hears of them.
        able = [kind for kind, share in example.fits.items() if share >= ALWAYS]
        if whole and "integer" in able:
            return "integer"
        if example.decimals <= _CENTS and "amount" in able:
            return "amount"
        return "number" if "number" in able else "json"

    def presence(self, facts: PathFacts) -> tuple[tuple[str, ...] | str, tuple[str, ...] | str]:
        """Which types of events must have a field, and which may."""
        if not self.types:
            share = (facts.events - self.nulls.get((facts.path, None), 0)) / max(1, self.objects)
            return ("all", ()) if share >= ALWAYS else ((), "all")
        shares = {
            name: (facts.types.get(name, 0) - self.nulls.get((facts.path, name), 0)) / self.schema.types[name]
            for name in self.types
        }
        if all(share >= ALWAYS for share in shares.values()):
            return "all", ()
        required = tuple(name for name, share in shares.items() if share >= ALWAYS)
        optional = tuple(name for name in self.types if name not in required and facts.types.get(name, 0))
        return required, optional

    def observed(self, facts: PathFacts) -> str:
        """`in 48 % of events; number 98 %, string 2 %`."""
        from event_archive.schema.drift import percent

        kinds = ", ".join(f"{kind} {percent(share)}" for kind, share in facts.kind_shares().items())
        return f"in {percent(facts.share)} of events; {kinds}"


def _others(facts: PathFacts, kind: str) -> str | None:
    """Which types of values a column of a type doesn't take, with their shares; None if it takes all that there are."""
    from event_archive.schema.drift import percent

    takes = {
        "string": {*FORMATS, "string"},
        "integer": {"integer"},
        "amount": {"integer", "number"},
        "number": {"integer", "number"},
    }.get(kind, {kind})
    others = [
        f"{other} ({percent(share)})"
        for other, share in facts.kind_shares().items()
        if other not in {*takes, "null"}
    ]
    return None if kind == "json" or not others else f"{facts.path} where it is {' or '.join(others)}"


def infer_columns(
    connection: duckdb.DuckDBPyConnection,
    schema: StreamSchema,
    examples: Mapping[str, Example],
    event_id: str | None,
) -> Columns:
    """The columns of a staging model.

    Args:
        connection: After the scan that `schema` comes from.
        schema: What the payloads say.
        examples: By path.
        event_id: The path of the event's id; None if there is none.

    Raises:
        UsageError: The payloads are no JSON objects, or a path isn't there.
    """
    root = schema.path("$")
    objects = root.kinds.get("object", 0) if root else 0
    if root is None or objects < _CLEAR * schema.events:
        shares = ", ".join(root.kinds) if root else "none of them is JSON"
        raise UsageError(
            f"{schema.stream}: the payloads are no JSON objects ({objects:,} of {schema.events:,} are; they are: {shares}), so no columns can "
            "be made of their fields; write its staging model by hand, after those of other streams."
        )
    nulls = {
        (path, name): int(events)
        for path, name, events in connection.execute(
            f"select path, type, sum(events) from seen where kinds = {bit('null')} group by grouping sets ((path), (path, type))"
        ).fetchall()
    }
    inference = _Inference(schema, examples, nulls, objects, _event_types(schema))
    chosen = inference.chosen()
    given = _given_names(chosen, schema.type_field if inference.types else None, event_id)
    names = column_names([_names_of(facts) for facts, _ in chosen], given)
    first = list(given.values())
    fields = []
    for facts, kind in chosen:
        name = names[_names_of(facts)]
        required, optional = ("all", ()) if name in first else inference.presence(facts)
        example = examples.get(facts.path)
        fields.append(
            Field(
                name=name,
                path=json_path(facts.keys),
                type=kind,
                required_by=required,
                optional_for=optional,
                observed=inference.observed(facts),
                examples=example.values if example else (),
            )
        )
    fields.sort(
        key=lambda made: (
            first.index(made.name) if made.name in first else len(first),
            made.required_by != "all",
            made.name,
        )
    )
    for made in fields[_MOST_COLUMNS:]:
        inference.left_out.append(f"{made.path}: there are too many columns")
    return Columns(
        tuple(fields[:_MOST_COLUMNS]),
        inference.types,
        event_id is not None,
        tuple(inference.left_out),
        tuple(text for facts, kind in chosen if (text := _others(facts, kind)) is not None),
    )


def _names_of(facts: PathFacts) -> tuple[str, ...]:
    return tuple(key for key in facts.keys if key is not None)


def _event_types(schema: StreamSchema) -> tuple[str, ...]:
    """Types of events but those that only some broken event has; none if there are too many for a list."""
    from event_archive.schema.scan import OTHER_TYPES

    if schema.type_field is None or OTHER_TYPES in schema.types:
        return ()
    return tuple(
        name
        for name, events in schema.types.items()
        if events >= _RARE_TYPE * schema.json_events
        and (events > 1 or schema.json_events < _FEW)
        and name.isprintable()
        and name.strip()
        and not set(name) & set("{}\"\\'")
    )


def _given_names(
    chosen: Sequence[tuple[PathFacts, str]], type_field: str | None, event_id: str | None
) -> dict[tuple[str, ...], str]:
    """Columns that macros know by name."""
    given = {}
    for path, name, types in (
        (event_id, "event_id", ("string", "integer")),
        (type_field, "event_type", ("string",)),
    ):
        if path is None:
            continue
        keys = keys_of(path)
        kinds = [kind for facts, kind in chosen if facts.keys == keys]
        if not kinds:
            raise UsageError(f"{path}: no such field in the payloads, or too few events have it.")
        if kinds[0] not in types:
            raise UsageError(f"{path}: can't be the {name}, as it is of type {kinds[0]}.")
        given[tuple(key for key in keys if key is not None)] = name
    return given
