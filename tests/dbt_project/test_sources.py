"""dbt sees the archive as it is: the columns of the envelope, one pinned snapshot, and nothing of it in the build file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import yaml

from event_archive.envelope import DESCRIPTIONS, EVENT_SCHEMA
from tests.dbt_project.conftest import DBT_PROJECT, STREAMS, SmallArchive, Warehouse

if TYPE_CHECKING:
    from pathlib import Path


def source_tables() -> dict[str, dict[str, Any]]:
    """The tables of the dbt source, by name."""
    text = (DBT_PROJECT / "models/staging/_event_archive__sources.yml").read_text()
    (source,) = yaml.safe_load(text)["sources"]
    return {table["name"]: table for table in source["tables"]}


@pytest.mark.parametrize("stream", STREAMS)
def test_the_columns_of_the_source_are_those_of_the_envelope(stream: str) -> None:
    """A column that the envelope gains, loses or renames can't be forgotten here; the descriptions are the envelope's too."""
    columns = {column["name"]: column["description"] for column in source_tables()[stream]["columns"]}
    assert columns.pop("payload")
    assert list(columns) == EVENT_SCHEMA.names
    assert {name: text.removesuffix(".") for name, text in columns.items()} == DESCRIPTIONS


@pytest.mark.parametrize("stream", STREAMS)
def test_the_source_has_the_asset_key_of_the_ingested_stream(stream: str) -> None:
    """Lineage in Dagster then goes from the stream to the marts without a break."""
    assert source_tables()[stream]["config"]["meta"]["dagster"]["asset_key"] == ["event_archive", stream]


def test_the_project_can_be_parsed_without_an_archive(tmp_path: Path) -> None:
    """Lineage and documentation are there before the first event is."""
    warehouse = Warehouse(tmp_path / "warehouse")
    assert warehouse.dbt("parse", snapshot=None) == []
    assert not warehouse.file.exists()
    manifest = json.loads((warehouse.folder / "target/manifest.json").read_text())
    marts = {
        node["name"]: node
        for node in manifest["nodes"].values()
        if "marts" in node.get("fqn", []) and node["resource_type"] == "model"
    }
    assert len(marts) == 9
    for name, mart in marts.items():
        assert mart["schema"] == "main", name
        assert mart["contract"]["enforced"], name
        assert ", one row per " in mart["description"], f"{name}: its description ends with its grain"
        assert all(column["description"] for column in mart["columns"].values()), name


def test_a_build_without_an_archive_says_what_is_missing(tmp_path: Path) -> None:
    """Someone who types `dbt run` without a snapshot reads one sentence."""
    (problem,) = Warehouse(tmp_path / "warehouse").dbt("run", "--select", "bookings", snapshot=None)
    assert "EVENT_ARCHIVE_SNAPSHOT" in problem


def test_descriptions_are_in_the_published_file(demo_warehouse: Warehouse) -> None:
    """An analyst finds in the database itself what each mart and each column is."""
    undescribed = demo_warehouse.rows(
        "select table_name, column_name from duckdb_columns() where schema_name = 'main' and not internal and comment is null"
    )
    assert undescribed == []
    ((grain,),) = demo_warehouse.rows("select comment from duckdb_tables() where table_name = 'carts'")
    assert grain.strip().endswith(", one row per cart.")


def test_a_build_over_an_empty_archive_gives_empty_marts(tmp_path: Path) -> None:
    """Streams that are configured but have no event yet are no error."""
    warehouse = Warehouse(tmp_path / "warehouse")
    assert warehouse.dbt("run", snapshot=SmallArchive(tmp_path / "archive").snapshot()) == []
    assert warehouse.rows("select (select count(*) from bookings), (select count(*) from carts)") == [(0, 0)]


def test_nothing_of_the_archive_gets_into_the_build_file(demo_warehouse: Warehouse, tmp_path: Path) -> None:
    """No view that names archive files, no path; and its own views work under any name of the file."""
    renamed = tmp_path / "renamed.duckdb"
    renamed.write_bytes(demo_warehouse.file.read_bytes())
    with duckdb.connect() as connection:
        connection.execute(f"attach '{renamed}' as somewhere_else (read_only)")
        views = connection.execute(
            "select schema_name || '.' || view_name, sql from duckdb_views() where database_name = 'somewhere_else' and not internal"
        ).fetchall()
        assert len(views) > 5
        for name, sql in views:
            assert "parquet" not in sql
            assert "current" not in sql, f"{name} remembers the name of the build's file"
            assert connection.execute(f"select count(*) from somewhere_else.{name}").fetchone()
