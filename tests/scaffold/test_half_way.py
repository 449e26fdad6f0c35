"""A scaffold that ends half-way leaves nothing of a stream or a table, and the next one finds no half of a project."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import StorageError
from event_archive.scaffold import project
from tests.scaffold.test_scaffold_stream import files_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scaffold.place import Place


def test_models_of_which_one_cannot_be_written_are_all_taken_away_again(tmp_path: Path) -> None:
    """The disk refuses the second: the first goes too, and what others have there stays."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "taken").write_text("a file where a folder should be")
    with pytest.raises(StorageError):
        project.write_new(tmp_path, {"models/a/first.sql": "select 1", "models/taken/second.sql": "select 2"})
    assert files_of(tmp_path) == {"models/taken": b"a file where a folder should be"}


@pytest.mark.parametrize("number", range(6))
def test_a_project_of_which_a_part_could_not_be_copied_is_completed_by_the_next_scaffold(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever part it is: without it the folder counts as no project, and no half of a part is taken for a whole."""
    project.make_project(place.folder / "whole")
    left = number

    def copy(source: Any, target: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            target.write_text("half")
            raise OSError(28, "No space left on device")
        return target.mkdir() if source.is_dir() else target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", lambda source, target, **_: _copied(copy, source, target))
        patched.setattr(shutil, "copyfile", copy)
        with pytest.raises(StorageError):
            project.make_project(place.project)
    assert not (place.project / "dbt_project.yml").exists()
    project.make_project(place.project)
    assert files_of(place.project) == files_of(place.folder / "whole")


def _copied(copy: Any, source: Path, target: Path) -> None:
    copy(source, target)
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_columns_with_names_that_would_have_to_be_quoted_are_refused(place: Place) -> None:
    """What somebody wrote into a description goes into no SQL unless it is a plain name."""
    place.configure("orders")
    place.archive("orders", "1.jsonl", [{"event_id": f"{n}", "price": n} for n in range(20)])
    assert place.run("scaffold", "stream", "orders").returncode == 0
    yml = place.project / "models/staging/orders/stg_orders__orders.yml"
    yml.write_text(yml.read_text().replace("- name: price", '- name: "price, (select 1) as b"'))
    done = place.run("scaffold", "mart", "prices", "--stream", "orders", "--level", "event")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a-z, 0-9 and _" in done.stderr
    assert not (place.project / "models/marts").exists()
