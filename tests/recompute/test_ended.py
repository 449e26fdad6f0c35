"""Signals while DuckDB works in our own process end a command as signals do, not with a traceback."""

import signal
import threading

import duckdb
import pytest

from event_archive.cli import app, ended

LONG = "select sum(hash(range)) from range(200000000000)"


def _long_query() -> None:
    # One thread: it is this one, which looks for signals between its steps.
    duckdb.connect(config={"threads": 1}).execute(LONG).fetchall()


def _soon(number: signal.Signals) -> None:
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, number)).start()


def test_sigterm_ends_a_query_and_the_process() -> None:
    """With the exit code of a process that SIGTERM has ended."""
    _soon(signal.SIGTERM)
    with pytest.raises(SystemExit) as ending, ended.ended_by_sigterm():
        _long_query()
    assert ending.value.code == 128 + signal.SIGTERM


def test_another_error_of_a_query_comes_through() -> None:
    """It is no signal."""
    with pytest.raises(RuntimeError, match="ours"), ended.ended_by_sigterm():
        raise RuntimeError("ours")


def test_ctrl_c_ends_a_query_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does anywhere else."""
    monkeypatch.setattr(app, "app", _long_query)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    try:
        _soon(signal.SIGINT)
        with pytest.raises(SystemExit) as ending:
            app.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert ending.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "Aborted!\n"
