"""How results are written: exact in CSV and JSON, safe on a terminal, in a stream, and stopped at once."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import QueryRefused, StorageError, UsageError
from event_archive.sql import output
from event_archive.sql.layout import cells, printable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    import duckdb

    Start = Callable[..., subprocess.Popen[bytes]]

# SQL value, its JSON, its CSV.
VALUES = [
    ("null", "null", ""),
    ("''", '""', '""'),
    ("'null'", '"null"', "null"),
    ("' a '", '" a "', " a "),
    ("'a,b'", '"a,b"', '"a,b"'),
    ("'say \"hi\"'", '"say \\"hi\\""', '"say ""hi"""'),
    ("'a' || chr(10) || 'b'", '"a\\nb"', '"a\nb"'),
    ("'a' || chr(13)", '"a\\r"', '"a\r"'),
    ("chr(27) || '[31m' || chr(0)", '"\\u001B[31m\\u0000"', "\x1b[31m\0"),
    ("'é漢😀'", '"é漢😀"', "é漢😀"),
    ("true", "true", "true"),
    ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
    ("-9223372036854775808", "-9223372036854775808", "-9223372036854775808"),
    ("18446744073709551615::ubigint", "18446744073709551615", "18446744073709551615"),
    ("170141183460469231731687303715884105727::hugeint", "170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
    ("1.50::decimal(10, 2)", "1.50", "1.50"),
    ("12345678901234567890.123456789012345678::decimal(38, 18)", "12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
    ("0.1::double", "0.1", "0.1"),
    ("0.1::float", "0.1", "0.1"),
    ("5e-324::double", "5e-324", "5e-324"),
    ("1.7976931348623157e308::double", "1.7976931348623157e+308", "1.7976931348623157e+308"),
    ("'nan'::double", '"NaN"', "NaN"),
    ("'inf'::double", '"Infinity"', "Infinity"),
    ("'-inf'::float", '"-Infinity"', "-Infinity"),
    ("'text'::blob", '"text"', "text"),
    ("encode('é')", '"é"', "é"),
    (r"'\xFF\x00'::blob", '{"base64":"/wA="}', "base64:/wA="),
    ("'base64:/wA='::blob", '"base64:/wA="', "base64:YmFzZTY0Oi93QT0="),
    ("''::blob", '""', '""'),
    ("timestamptz '2013-01-01 05:15:00.250000-05'", '"2013-01-01T10:15:00.25+00:00"', "2013-01-01T10:15:00.25+00:00"),
    ("timestamptz 'infinity'", '"infinity"', "infinity"),
    ("timestamp '9999-12-31 23:59:59.999999'", '"9999-12-31T23:59:59.999999"', "9999-12-31T23:59:59.999999"),
    ("timestamp_ns '2020-01-01 00:00:00.123456789'", '"2020-01-01T00:00:00.123456789"', "2020-01-01T00:00:00.123456789"),
    ("date '2024-02-29'", '"2024-02-29"', "2024-02-29"),
    ("time '23:59:59.5'", '"23:59:59.5"', "23:59:59.5"),
    ("interval '1 month 2 days'", '"1 month 2 days"', "1 month 2 days"),
    ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"', "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ("'a\"b'::enum('a\"b')", '"a\\"b"', '"a""b"'),
    ("[1, null]", "[1,null]", '"[1,null]"'),
    ("[]::int[]", "[]", "[]"),
    ("null::int[]", "null", ""),
    ("[1, 2]::int[2]", "[1,2]", '"[1,2]"'),
    ("[['nan'::double], null, []]", '[["NaN"],null,[]]', '"[[""NaN""],null,[]]"'),
    ("{'a': 9007199254740993, 'b \"c\"': [{'d': 'x'::blob}]}", '{"a":9007199254740993,"b \\"c\\"":[{"d":"x"}]}', '"{""a"":9007199254740993,""b \\""c\\"""":[{""d"":""x""}]}"'),
    ("null::struct(a int)", "null", ""),
    ("{'a': null::struct(b int), 'c': {'b': 1}}", '{"a":null,"c":{"b":1}}', '"{""a"":null,""c"":{""b"":1}}"'),
    ("row(1, 'x')", '[1,"x"]', '"[1,""x""]"'),
    ("map {'k': 1, 'l': null}", '[{"key":"k","value":1},{"key":"l","value":null}]', '"[{""key"":""k"",""value"":1},{""key"":""l"",""value"":null}]"'),
    ("map([], [])::map(int, int)", "[]", "[]"),
    ("'{ \"a\" : 1.0 }'::json", '{ "a" : 1.0 }', '"{ ""a"" : 1.0 }"'),
    ("'[1,]'::json", '"[1,]"', '"[1,]"'),
    ("'NaN'::json", '"NaN"', "NaN"),
    ("('[1,' || chr(10) || '2]')::json", "[1, 2]", '"[1,\n2]"'),
    ("['[1]'::json, null]", "[[1],null]", '"[[1],null]"'),
    ("'101'::bit", '"101"', "101"),
    ("union_value(k := 1)", '"1"', "1"),
]  # fmt: skip


def written(
    connection: duckdb.DuckDBPyConnection, query: str, output_format: output.Format, width: int = 80
) -> str:
    """Run a query and give what it has written."""
    out = io.BytesIO()
    assert output.run(connection, query, output_format, out, width=width) == 0
    return out.getvalue().decode()


@pytest.mark.parametrize(("value", "expected_json", "expected_csv"), VALUES)
def test_a_value_of_each_type_is_written_exactly(
    value: str, expected_json: str, expected_csv: str, analyst: duckdb.DuckDBPyConnection
) -> None:
    """The table in rendering.py, type by type."""
    query = f"select {value} as v, 1 as w"
    assert written(analyst, query, "json") == f'[\n{{"v":{expected_json},"w":1}}\n]\n'
    assert written(analyst, query, "csv") == f"v,w\n{expected_csv},1\n"


def test_json_is_read_back_by_any_parser(analyst: duckdb.DuckDBPyConnection) -> None:
    """One array; an object a line; digits kept."""
    query = (
        "select range as n, range / 3 as third, case when range % 2 = 0 then 'x' end as t from range(5000)"
    )
    text = written(analyst, query, "json")
    rows = json.loads(text, parse_float=Decimal)
    assert [row["n"] for row in rows] == list(range(5000))
    assert [float(row["third"]) for row in rows] == [n / 3 for n in range(5000)]
    assert {row["t"] for row in rows} == {"x", None}
    assert len(text.splitlines()) == 5002
    assert json.loads(written(analyst, "select 1 where false", "json")) == []


def test_columns_of_one_name_stay_apart_in_json(analyst: duckdb.DuckDBPyConnection) -> None:
    """A later one is numbered, past names that are taken."""
    rows = json.loads(written(analyst, 'select 1 as a, 2 as a, 3 as a_2, 4 as a, 5 as "q""q"', "json"))
    assert rows == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4, 'q"q': 5}]


def test_csv_is_read_back_by_any_parser(analyst: duckdb.DuckDBPyConnection) -> None:
    """Quotes, commas and line breaks in values and in the heading."""
    query = """select range as n, 'a,"' || range || chr(10) as "odd, ""name\"\"\" from range(3000)"""
    rows = list(csv.reader(io.StringIO(written(analyst, query, "csv"), newline="")))
    assert rows == [["n", 'odd, "name"'], *([str(n), f'a,"{n}\n'] for n in range(3000))]


def test_the_order_of_the_query_is_kept(analyst: duckdb.DuckDBPyConnection) -> None:
    """Through all the steps of writing."""
    text = written(analyst, "select range as n from range(50000) order by hash(range)", "csv")
    ordered = analyst.execute("select range from range(50000) order by hash(range)").fetchall()
    assert [int(line) for line in text.splitlines()[1:]] == [n for (n,) in ordered]


def test_the_archives_own_columns_are_written(analyst: duckdb.DuckDBPyConnection) -> None:
    """Every type of the envelope, payload included."""
    rows: list[dict[str, Any]] = json.loads(
        written(analyst, "select * from archive.bookings order by value", "json")
    )
    booked, cancelled = {"type": "booked", "seat": "12A"}, {"type": "cancelled", "seat": "12A"}
    assert [(row["value"], row["payload"]) for row in rows] == [
        ("not json", None),
        (json.dumps(booked), booked),
        (json.dumps(cancelled), cancelled),
        (None, None),
    ]
    assert rows[0]["ingest_date"] == "2024-01-02"
    assert written(analyst, "select * from archive.bookings", "table", width=60).endswith("(4 rows)\n")


def test_a_table_fits_the_width_and_is_aligned(analyst: duckdb.DuckDBPyConnection) -> None:
    """Wide cells are cut, numbers stand on the right, wide characters count as two."""
    query = "select 7 as n, repeat('x', 500) as long, '漢字' as wide, null as nothing union all select 1234, 'short', 'é', 1"
    text = written(analyst, query, "table", width=60)
    lines = text.splitlines()
    assert lines[0].split() == ["n", "|", "long", "|", "wide", "|", "nothing"]
    assert 50 <= max(map(cells, lines)) <= 60
    assert lines[2].startswith("   7 | xxx")
    assert "…" in lines[2]
    bars = [
        [cells(line[:at]) for at, character in enumerate(line) if character == "|"]
        for line in (lines[0], *lines[2:4])
    ]
    assert bars[0] == bars[1] == bars[2]
    assert lines[-1] == "(2 rows)"


def test_many_columns_are_shown_one_field_per_line(analyst: duckdb.DuckDBPyConnection) -> None:
    """Rather than cut to nothing."""
    text = written(
        analyst, "select " + ", ".join(f"repeat('x', 50) as column{n}" for n in range(20)), "table"
    )
    assert text.startswith("-[ row 1 ]---")
    assert max(map(cells, text.splitlines())) <= 80
    assert text.count("column") == 20


@pytest.mark.parametrize(
    "code", [0, 7, 8, 9, 10, 13, 27, 127, 0x9B, 0x85, 0x202E, 0x2066, 0x200F, 0x2028, 0xFEFF, 0xE0001]
)
def test_no_character_of_the_data_commands_the_terminal(
    code: int, analyst: duckdb.DuckDBPyConnection
) -> None:
    """In values, in blobs, in names of columns, and in both layouts."""
    for columns in (1, 12):
        names = ", ".join(
            f"'a' || chr({code}) || '[31mb' as \"c{n}{chr(code) if code else ''}\"" for n in range(columns)
        )
        text = written(analyst, f"select {names}, encode('a' || chr({code})) as bytes", "table")
        assert chr(code) not in text.replace("\n", "" if code == 10 else "\n")
        assert "\\" in text
    assert printable(chr(code)).isascii()


def test_a_large_table_is_shown_in_chunks(analyst: duckdb.DuckDBPyConnection) -> None:
    """The heading comes again when a later chunk needs wider columns."""
    text = written(
        analyst, "select range as n, repeat('x', (range // 1000)::int) as x from range(3000)", "table"
    )
    assert text.endswith("(3,000 rows)\n")
    assert text.count("n | x") >= 2
    assert written(analyst, "select 1 as n where false", "table") == "n\n-\n(0 rows)\n"
    assert written(analyst, "select 1 as n", "table").endswith("(1 row)\n")


def test_twenty_million_rows_stream_in_constant_memory(query_process: Start) -> None:
    """Peak memory of the whole process, Python and DuckDB included."""
    peaks = []
    for rows in (200_000, 20_000_000):
        process = query_process(f"select range as n from range({rows})", "csv")
        count = 0
        assert process.stdout is not None
        while block := process.stdout.read(1 << 20):
            count += block.count(b"\n")
        _, errors = process.communicate()
        assert process.returncode == 0
        assert count == rows + 1
        peaks.append(int(errors.decode().split("peak_kilobytes=")[1]))
    assert peaks[1] < 300_000
    assert peaks[1] < peaks[0] + 50_000


ENDLESS = [
    ("select sum(a.range * b.range) from range(1000000) a, range(1000000) b", "an aggregate"),
    ("select range from range(100000000000)", "a stream of rows"),
    ("select max(length(repeat('x', range % 1000) || range)) from range(100000000000)", "work on text"),
    (
        "select length(regexp_replace(repeat('abc \"x', 50000000), '\"[^x]*x', 'z', 'g'))",
        "one long step on one value",
    ),
]


@pytest.mark.parametrize("output_format", ["csv", "json", "table"])
@pytest.mark.parametrize("query", [query for query, _ in ENDLESS], ids=[name for _, name in ENDLESS])
def test_ctrl_c_stops_at_once(query: str, output_format: str, query_process: Start, tmp_path: Any) -> None:
    """Within two seconds, with exit code 130, and nothing is left behind."""
    process = query_process(query, output_format, TEMPORARY=str(tmp_path), MEMORY_LIMIT="2GB")
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    time.sleep(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - begun < 2.5
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output_format", ["csv", "json", "table"])
@pytest.mark.parametrize("locked", [{}, {"LOCK_PROCESS": "1"}])
def test_a_reader_that_goes_away_ends_it_quietly(
    output_format: str, locked: dict[str, str], query_process: Start
) -> None:
    """As `| head` does."""
    process = query_process("select range from range(100000000000)", output_format, **locked)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    assert process.wait(timeout=20) == 0
    assert [line for line in errors.splitlines() if not line.startswith(("ready", "peak"))] == []
    process.stderr.close()


TOO_LARGE = [
    "select repeat('x', 20_000_000_000)",
    "select length(repeat('x', 3_000_000_000))",
    "select list(range) from range(10_000_000_000)",
    "select string_agg(range::varchar, ',') from range(10_000_000_000)",
    # Some gigabytes and no more, should the limit ever fail.
    "select count(*) from (select distinct range from range(200_000_000))",
    "select * from range(200_000_000) order by hash(range)",
    "select range(1_000_000_000)",
    "select array_agg(repeat('x', 1000) || range) from range(1_000_000_000)",
    "select repeat('x', 1_000_000) || range from range(1_000_000)",
]


@pytest.mark.parametrize("query", TOO_LARGE)
def test_a_query_larger_than_memory_ends_with_a_sentence(
    query: str, query_process: Start, tmp_path: Any
) -> None:
    """Not with the machine."""
    process = query_process(query, "csv", PROCESS_MEMORY=str(1_500_000_000), TEMPORARY=str(tmp_path))
    assert process.stdout is not None
    while process.stdout.read(1 << 20):
        pass
    _, errors = process.communicate(timeout=120)
    text = errors.decode()
    assert process.returncode == 2, text
    assert (
        "UsageError: The query needs more memory than it may have" in text
        or "maximum supported string size" in text
    )
    assert int(text.split("peak_kilobytes=")[1]) < 1_600_000
    assert list(tmp_path.iterdir()) == []


def test_a_failing_query_says_what_failed_in_one_line(analyst: duckdb.DuckDBPyConnection) -> None:
    """DuckDB quotes the data in its errors: a megabyte of it, or an escape sequence, must not reach the terminal."""
    with pytest.raises(UsageError) as failure:
        written(analyst, "select no_such_column from bookings", "csv")
    assert "no_such_column" in str(failure.value)
    with pytest.raises(UsageError) as failure:
        written(analyst, "select (chr(27) || repeat('x', 1000000))::int", "csv")
    assert "\x1b" not in str(failure.value)
    assert len(str(failure.value)) < 1000
    with pytest.raises(UsageError, match="Could not convert"):
        written(
            analyst, "select (case when range = 90000 then 'x' else '1' end)::int from range(100000)", "json"
        )
    with pytest.raises(QueryRefused):
        written(analyst, "drop view bookings", "csv")


def test_a_full_disk_is_said(analyst: duckdb.DuckDBPyConnection) -> None:
    """Told apart from an error of the query."""
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(StorageError, match="No space left"):  # noqa: PTH123 - a device
        output.run(analyst, "select range from range(1000000)", "csv", full)
