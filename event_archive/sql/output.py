"""Runs a query and writes its result as table, CSV or JSON, in a stream of constant memory.

A query runs in a thread of its own, and the main thread waits: only so does Ctrl-C reach it at any time (DuckDB 2.0 doesn't look for
signals while it computes). What doesn't live here: which queries may run (`statements`), and how values are written (`rendering`).
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import threading
from typing import TYPE_CHECKING, BinaryIO, Literal

import duckdb

from event_archive.errors import StorageError, UsageError
from event_archive.sql import rendering
from event_archive.sql.layout import TableLayout
from event_archive.sql.sandbox import remove_temporary_files
from event_archive.sql.statements import check, first_line
from event_archive.sql.views import quote_text

if TYPE_CHECKING:
    from collections.abc import Iterator

Format = Literal["table", "csv", "json"]

EXIT_INTERRUPTED = 130
# DuckDB's own vectors are of this size: a result of huge values is held for no more rows than DuckDB holds anyway.
_ROWS_PER_BATCH = 2048
_ROWS_PER_CHUNK = 500
_SECONDS_TO_STOP = 1.0


def run(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    output_format: Format,
    out: BinaryIO,
    *,
    width: int | None = None,
) -> int:
    """Check a query, run it, and write its result.

    Ctrl-C stops it at once, wherever it is; when the reader of the output goes away (`| head`) it ends quietly.

    Args:
        connection: A connection of `sandbox.connect`. To be called in the main thread.
        query: One reading statement.
        output_format: `table` for a person; `csv` or `json` (one array, an object per row and line) are exact.
        out: Where the bytes go, such as `sys.stdout.buffer`; it is flushed.
        width: Cells per line of a table. None: as wide as the terminal.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        QueryRefused: The query isn't one reading statement.
        UsageError: It failed: a column doesn't exist, a value can't be cast, it needs more memory than it may have.
        StorageError: The archive couldn't be read, or the result not be written.
    """
    statement = check(connection, query)
    failure: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            _write(connection, statement, output_format, out, width or shutil.get_terminal_size().columns)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            failure.append(error)
        finally:
            ended.set()

    try:
        # A daemon: should it be stuck in a write or a long step, the process can end without it.
        threading.Thread(target=work, name="query", daemon=True).start()
        ended.wait()
    except KeyboardInterrupt:
        connection.interrupt()
        if not ended.wait(_SECONDS_TO_STOP):
            remove_temporary_files(connection)
            os._exit(EXIT_INTERRUPTED)
        return EXIT_INTERRUPTED
    if failure:
        _raise(failure[0], out)
    return 0


def write_csv(relation: duckdb.DuckDBPyRelation, out: BinaryIO) -> None:
    r"""Write a result as CSV: RFC 4180 quoting, lines end in \n; null is empty, an empty text is "".

    Args:
        relation: The result, not executed yet.
        out: Where the bytes go.
    """
    header = ",".join(_csv_quoted(name) for name in relation.columns)
    _send(out, f"{header}\n".encode())
    texts, fields = [], []
    for position, kind in enumerate(relation.types):
        texts.append(f"{rendering.csv_text(f'#{position + 1}', kind)} as c{position}")
        if rendering.needs_no_quotes(kind):
            fields.append(f"c{position}")
        else:
            quoted = f"""'"' || replace(c{position}, '"', '""') || '"'"""
            fields.append(
                f"""case when c{position} = '' or regexp_matches(c{position}, '[",\\r\\n]') then {quoted} else c{position} end"""
            )
    # concat takes null for an empty text, which is what it is in CSV.
    content = ", ',', ".join(fields)
    line = f"concat({content}, chr(10))"
    for data in _texts(relation.project(", ".join(texts)).project(line)):
        _send(out, data)


def write_json(relation: duckdb.DuckDBPyRelation, out: BinaryIO) -> None:
    """Write a result as one JSON array, an object per row, each on a line of its own.

    Args:
        relation: The result, not executed yet. Of several columns of one name, the later ones are written as `name_2`, `name_3`.
        out: Where the bytes go.
    """
    texts = [
        f"{rendering.json_text(f'#{position + 1}', kind)} as c{position}"
        for position, kind in enumerate(relation.types)
    ]
    fields = [
        f"{quote_text(json.dumps(name, ensure_ascii=False) + ':')}, coalesce(c{position}, 'null')"
        for position, name in enumerate(_distinct(relation.columns))
    ]
    content = ", ',', ".join(fields)
    line = f"concat(',', chr(10), '{{', {content}, '}}')"
    separator = len(",\n")
    _send(out, b"[")
    rows = _texts(relation.project(", ".join(texts)).project(line))
    for position, data in enumerate(rows):
        _send(out, data if position else data[separator - 1 :])
    _send(out, b"\n]\n")


def write_table(relation: duckdb.DuckDBPyRelation, out: BinaryIO, *, width: int) -> None:
    """Write a result as a table for a person, chunk by chunk, with the number of rows as the last line.

    Args:
        relation: The result, not executed yet.
        out: Where the bytes go, in UTF-8.
        width: Cells per line.
    """
    kinds = relation.types
    layout = TableLayout(relation.columns, numbers=[rendering.is_number(kind) for kind in kinds], width=width)
    # One character more than fits, so that the layout sees that something is cut.
    texts = [
        f"{rendering.table_text(f'#{position + 1}', kind, width + 1)} as c{position}"
        for position, kind in enumerate(kinds)
    ]
    waiting: list[tuple[str | None, ...]] = []
    is_first = True

    def lay_out() -> None:
        nonlocal is_first
        if waiting or is_first:
            _send(out, layout.rows(waiting).encode("utf-8", "backslashreplace"))
            _flush(out)
        waiting.clear()
        is_first = False

    for batch in relation.project(", ".join(texts)).to_arrow_reader(_ROWS_PER_CHUNK):
        waiting += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        # Batches may be of a row each, of a UNION for example: laid out alone, each would have its own widths.
        if len(waiting) >= _ROWS_PER_CHUNK:
            lay_out()
    lay_out()
    _send(out, layout.end().encode())


class _OutputError(Exception):
    """The result can't be written; the cause is the OSError."""


def _write(
    connection: duckdb.DuckDBPyConnection,
    statement: duckdb.Statement,
    output_format: Format,
    out: BinaryIO,
    width: int,
) -> None:
    """Run a checked statement and write its result."""
    # sql() and not execute(): the latter holds the whole result in DuckDB 2.0 before it gives the first row to Arrow.
    relation = connection.sql(statement)
    if relation is None:
        raise UsageError("The statement gives no result.")
    if output_format == "csv":
        write_csv(relation, out)
    elif output_format == "json":
        write_json(relation, out)
    else:
        write_table(relation, out, width=width)
    _flush(out)


def _texts(relation: duckdb.DuckDBPyRelation) -> Iterator[memoryview]:
    """Give the texts of a relation's only column, as they lie one behind the other in each batch."""
    for batch in relation.to_arrow_reader(_ROWS_PER_BATCH):
        column = batch.column(0)
        _, offsets, data = column.buffers()
        if len(column) == 0 or data is None:
            continue
        code = "<q" if str(column.type) == "large_string" else "<i"
        size = struct.calcsize(code)
        begin, end = (
            struct.unpack_from(code, offsets, size * index)[0]
            for index in (column.offset, column.offset + len(column))
        )
        yield memoryview(data)[begin:end]


def _send(out: BinaryIO, data: bytes | memoryview) -> None:
    """Write all of the data; a failure is told apart from one of the query."""
    try:
        out.write(data)
    except OSError as error:
        raise _OutputError from error


def _flush(out: BinaryIO) -> None:
    try:
        out.flush()
    except OSError as error:
        raise _OutputError from error


def _csv_quoted(text: str) -> str:
    if text == "" or any(character in text for character in '",\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def _distinct(names: list[str]) -> list[str]:
    """Give names of which no two are the same."""
    taken: set[str] = set()
    distinct = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken or (candidate != name and candidate in names):
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate)
        distinct.append(candidate)
    return distinct


def _raise(error: BaseException, out: BinaryIO) -> None:
    """Raise what a query ended in as an error that says what to do; return if the reader of the output is gone."""
    if isinstance(error, _OutputError):
        _leave_quietly(out)
        if isinstance(error.__cause__, BrokenPipeError):
            return
        raise StorageError(f"The result can't be written: {error.__cause__}.") from error
    text = first_line(error)
    if (
        isinstance(error, MemoryError)
        or "Out of Memory" in text
        or "bad_alloc" in text
        or "bad allocation" in text
    ):
        raise UsageError(
            "The query needs more memory than it may have; aggregate earlier, select fewer columns or rows, "
            f"or allow it more. ({text or 'out of memory'})"
        ) from error
    # What fails after the first rows comes through Arrow, as an OSError with DuckDB's text.
    if isinstance(error, duckdb.IOException) or text.startswith("IO Error"):
        raise StorageError(f"The archive or the warehouse can't be read: {text}") from error
    if isinstance(error, (duckdb.Error, OSError, RuntimeError)):
        raise UsageError(f"The query failed: {text}") from error
    raise error


def _leave_quietly(out: BinaryIO) -> None:
    """Let what is still buffered go nowhere, so that Python doesn't complain about the broken pipe or full disk when it ends."""
    try:
        descriptor = out.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
