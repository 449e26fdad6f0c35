"""The relation over a stream's files, and the rule by which a value is JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb
import pyarrow as pa
import pytest

from event_archive.errors import UsageError
from event_archive.sql.views import ENVELOPE_TYPES, archive_select, exact_path, json_or_null

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sql.conftest import Place

REPOSITORY = Path(__file__).parents[2]
SUITES = (REPOSITORY / "tests/data/jsontestsuite", REPOSITORY.parent / "shared/data/jsontestsuite")

JSON = [
    b"[]",
    b" \t\r\n{} ",
    b'"nan"',
    b"null",
    b"-0",
    b"1E+2",
    b'{"a":[1,{"b":", nan ,]"}]}',
    '"é漢"'.encode(),
    b'"\\u0000"',
]
JSON += [
    b"1" * 5000,
    b"1e999999",
    b'["Infinity, ]", "\\"", ",]"]',
    b'{"a":1,"a":2}',
    b"[" * 100_000 + b"]" * 100_000,
]
NO_JSON = [
    b"",
    b" ",
    b"[1,]",
    b'{"a":1,}',
    b"[1,\n]",
    b"NaN",
    b"-Infinity",
    b"[nan]",
    b'{"a":-inf}',
    b"[1,NaN]",
    b"[InFiniTy ]",
]
NO_JSON += [
    b"'a'",
    b"[1] x",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"{a:1}",
    b"/**/1",
    b'"\n"',
    b"\xff",
    b'"\xed\xa0\x80"',
    b"[",
    b'"a',
]
NO_JSON += [b"\xef\xbb\xbf[]", b"[1\x00]", b"tru", b"[,1]", b"[" * 100_000]


def which_are_json(values: Sequence[bytes | None]) -> list[bool]:
    """Say for each value whether it has a payload."""
    table = pa.table({"value": pa.array(values, pa.binary())})
    with duckdb.connect() as connection:
        connection.register("events", table)
        rows = connection.execute(f"select {json_or_null('value')} is not null from events").fetchall()
    return [is_json for (is_json,) in rows]


def test_a_value_has_a_payload_exactly_when_it_is_json() -> None:
    """Each value that RFC 8259 calls JSON, and each trap where DuckDB itself is lax."""
    assert which_are_json(JSON) == [True] * len(JSON)
    assert which_are_json(NO_JSON) == [False] * len(NO_JSON)
    assert which_are_json([None]) == [False]


def test_a_payload_keeps_the_exact_text() -> None:
    """Spaces, digits and doubled keys come out as they went in."""
    text = b' {"a": 1.50, "a": 123456789012345678901234567890.0e400}\n'
    with duckdb.connect() as connection:
        row = connection.execute(
            f"select ({json_or_null('value')})::varchar from (select ?::blob as value)", [text]
        ).fetchone()
    assert row == (text.decode(),)


def test_the_rule_works_as_a_macro_in_groups_filters_and_beside_itself() -> None:
    """One value that is no UTF-8 never makes a query fail, however often the rule occurs in it."""
    with duckdb.connect() as connection:
        connection.execute(f"create macro payload_of(bytes) as {json_or_null('bytes')}")
        connection.execute(
            r"create table events as select * from (values ('\xFF'::blob), ('{\x22a\x22:1}'), (null)) t(value)"
        )
        rows = connection.execute(
            "select payload_of(value) is not null as is_json, count(*), min(payload_of(value)->>'a'), count(payload_of(value)->'b') "
            "from events where payload_of(value) is null or length(payload_of(value)::varchar) > 0 group by all order by all"
        ).fetchall()
    assert rows == [(False, 2, None, 0), (True, 1, "1", 0)]


def test_the_public_test_suite_agrees() -> None:
    """All documents of JSONTestSuite: y_ is JSON, n_ is none, i_ is no error."""
    suite = next((suite for suite in SUITES if suite.is_dir()), None)
    if suite is None:
        pytest.skip("JSONTestSuite is not here")
    files = sorted((suite / "test_parsing").iterdir())
    judged = dict(
        zip([file.name for file in files], which_are_json([file.read_bytes() for file in files]), strict=True)
    )
    wrong = {name for name, is_json in judged.items() if name[0] != "i" and is_json != (name[0] == "y")}
    assert len(judged) == 318
    assert not wrong


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def strictly_json(value: bytes) -> bool | None:
    """Judge by Python's parser, told to be strict; None where implementations may differ (a lone surrogate)."""
    try:
        parsed: Any = json.loads(
            value.decode(), parse_constant=_refuse, parse_int=str, object_pairs_hook=list
        )
    except ValueError:
        return False
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None
    return True


def test_twenty_thousand_spoilt_documents_are_judged_as_by_a_strict_parser() -> None:
    """Random cuts and insertions of what JSON parsers trip over, seeded."""
    chance = random.Random(8259)
    traps = b'nan|NaN|-NaN|inf|Infinity|-Infinity|,|,]|, }|[|]|{|}|"|\\|\\"|null|1e5|-|+|0|.|e|\x00|\x0b|\xa0|\xff|/|:| |\n|\\u0041|"nan"|", nan ,"'
    pieces = traps.split(b"|")
    documents = [value for value in JSON + NO_JSON if 0 < len(value) < 1000]
    values = []
    for _ in range(20_000):
        value = bytearray(chance.choice(documents))
        for _ in range(chance.choice([1, 1, 2, 4])):
            at = chance.randrange(len(value) + 1)
            if chance.random() < 0.7:
                value[at:at] = chance.choice(pieces)
            else:
                del value[at : at + chance.randrange(1, 3)]
        values.append(bytes(value))
    expected = [strictly_json(value) for value in values]
    wrong = [
        value
        for value, strict, found in zip(values, expected, which_are_json(values), strict=True)
        if strict not in {None, found}
    ]
    assert not wrong
    assert sum(map(bool, expected)) > 1000


@pytest.mark.parametrize("files", [[], ["one"]])
def test_columns_and_types_are_the_envelopes_with_and_without_files(files: list[str], place: Place) -> None:
    """An empty stream has the same columns as a full one."""
    paths = place.files[:1] if files else []
    with duckdb.connect() as connection:
        relation = connection.sql(archive_select(paths, with_payload=True))
        assert relation.columns == [*ENVELOPE_TYPES, "payload"]
        expected = [str(connection.sql(f"select null::{kind}").types[0]) for kind in ENVELOPE_TYPES.values()]
        assert [str(kind) for kind in relation.types] == [*expected, "JSON"]
        assert connection.sql(archive_select(paths, with_payload=False)).columns == list(ENVELOPE_TYPES)


def test_the_date_in_the_file_wins_over_the_folders_name(analyst: duckdb.DuckDBPyConnection) -> None:
    """The fixture's folder says 2024-01-01, the rows say 2024-01-02."""
    assert analyst.execute("select distinct ingest_date::varchar from archive.bookings").fetchall() == [
        ("2024-01-02",)
    ]


NAMES = [
    "plain",
    "it's",
    "star*",
    "ask?",
    "set[1]",
    "half[",
    "a{b,c}",
    "per%20cent",
    "spa ce",
    "new\nline",
    "back\\slash",
    "~",
    "é",
]


def test_a_path_is_taken_for_one_file_whatever_characters_it_has(tmp_path: Path) -> None:
    """Every awkward name is read as itself, although its neighbours would match it as a pattern."""
    write = pytest.importorskip("pyarrow.parquet").write_table
    for name in [*NAMES, "starfish", "asks", "set1", "half1"]:
        folder = tmp_path / f"folder of {name}"
        folder.mkdir()
        write(pa.table({"name": [name]}), folder / f"{name}.parquet")
        write(pa.table({"name": [name]}), tmp_path / f"{name}.parquet")
    with duckdb.connect() as connection:
        for name in NAMES:
            for path in (tmp_path / f"{name}.parquet", tmp_path / f"folder of {name}" / f"{name}.parquet"):
                quoted = exact_path(str(path)).replace("'", "''")
                assert connection.sql(f"select name from read_parquet(['{quoted}'])").fetchall() == [(name,)]


@pytest.mark.parametrize(
    "path", ["relative.parquet", "/with\0nul", "/back\\slash[1].parquet", "s3://bucket/file"]
)
def test_a_path_that_cannot_be_named_is_refused(path: str) -> None:
    """Better no answer than that of another file."""
    with pytest.raises(UsageError, match="path"):
        archive_select([path], with_payload=False)
