"""The statements of dbt, noted once per run of the tests, and a warehouse in memory that plays them; and a shop whose tables are built.

What doesn't live here: the property that the statements are played for (`property`), and what can be done with the shop (`place`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.recompute.place import Place, new_place, orders, visits
from tests.recompute.real_dbt import Dbt, ParquetArchive
from tests.recompute.replay import ReplayedWarehouse
from tests.recompute.statements import Statements, noted

if TYPE_CHECKING:
    from collections.abc import Iterator

DBT_PROJECT = Path(__file__).parents[2] / "dbt_project"
OWN_MODELS = Path(__file__).with_name("models")


@pytest.fixture(scope="session")
def built_shop(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shop with a published build; for `shop` to be copied from."""
    place = new_place(tmp_path_factory.mktemp("shop"))
    place.archive("orders", orders(0, 20))
    place.archive("visits", visits(0, 20))
    place.recompute()
    return place


@pytest.fixture
def shop(built_shop: Place, tmp_path: Path) -> Place:
    """A shop of 20 orders and 20 visits, and its tables."""
    shutil.copytree(built_shop.folder, tmp_path / "shop", symlinks=True)
    return Place(tmp_path / "shop")


@pytest.fixture(scope="session")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """The project as it is."""
    return Dbt(DBT_PROJECT, tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="session")
def project_with_own_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with models that somebody has added, right ones and wrong ones."""
    project = tmp_path_factory.mktemp("own_models") / "dbt_project"
    shutil.copytree(DBT_PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(OWN_MODELS, project / "models" / "own")
    return project


@pytest.fixture(scope="session")
def statements(dbt: Dbt, tmp_path_factory: pytest.TempPathFactory) -> Statements:
    """What dbt sends for the project as it is."""
    return _noted_once(dbt, tmp_path_factory)


@pytest.fixture(scope="session")
def statements_of_own_models(
    project_with_own_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Statements:
    """What dbt sends for the project with models that somebody has added."""
    return _noted_once(Dbt(project_with_own_models, tmp_path_factory.mktemp("dbt")), tmp_path_factory)


@pytest.fixture(scope="session")
def warehouse(statements: Statements) -> Iterator[ReplayedWarehouse]:
    """The project's tables in memory."""
    warehouse = ReplayedWarehouse(statements)
    yield warehouse
    warehouse.connection.close()


def _noted_once(dbt: Dbt, tmp_path_factory: pytest.TempPathFactory) -> Statements:
    """Lets the processes of one run of the tests share what one of them has noted."""
    text = hashlib.sha256()
    for file in sorted(path for path in dbt.project.rglob("*") if path.suffix in {".sql", ".yml", ".py"}):
        if "target" not in file.parts:
            text.update(file.relative_to(dbt.project).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    kept = folder / f"statements-{text.hexdigest()}.json"
    if not kept.exists():
        archive = ParquetArchive(tmp_path_factory.mktemp("archive"))
        written = kept.with_name(f"{kept.name}.{os.getpid()}")
        written.write_text(noted(dbt, archive).to_json())
        written.replace(kept)
    return Statements.from_json(kept.read_text())
