"""dbt's models over an archive in a bucket: the same tables as over a copy of it in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from event_archive.config import Config, load_config
from event_archive.copying import copy_stream
from event_archive.ingest import ingest_stream
from event_archive.storage.folder import FolderStore
from event_archive.storage.opening import open_store
from event_archive.warehouse.pin import pin_streams
from tests.dbt_project.conftest import REPOSITORY, STREAMS, Warehouse, differences

if TYPE_CHECKING:
    from pathlib import Path

    from tests.storage.servers import Server


def built(config: Config, folder: Path) -> Warehouse:
    """All models, built from what the archive holds now."""
    snapshot = folder / "snapshot.json"
    folder.mkdir()
    streams = {name: asdict(pinned) for name, pinned in pin_streams(config).items()}
    snapshot.write_text(json.dumps({"streams": streams}))
    warehouse = Warehouse(folder / "build")
    assert warehouse.dbt("build", snapshot=snapshot) == []
    return warehouse


def test_tables_built_from_a_bucket_are_those_of_a_copy_in_a_folder(tmp_path: Path, server: Server) -> None:
    """The demo's models, all of their tests included."""
    command = [sys.executable, "-m", "demo.generate", "--events", "1000", "--seed", "3"]
    subprocess.run(
        [*command, "--landing", str(tmp_path / "landing"), "--truth", str(tmp_path / "truth")],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    open_store.cache_clear()
    streams = "".join(f"  {name}:\n    source: {{type: files, path: landing/{name}}}\n" for name in STREAMS)
    place = f"s3://{server.new_bucket()}/archive"
    reached = (
        f"s3: {{endpoint_url: '{server.endpoint_url}', region: us-east-1}}\nwarehouse: w\nstreams:\n{streams}"
    )
    (tmp_path / "far.yaml").write_text(f"archive: {place}\n{reached}")
    (tmp_path / "near.yaml").write_text(f"archive: copy\n{reached}")
    far, near = load_config(tmp_path / "far.yaml"), load_config(tmp_path / "near.yaml")
    for name in STREAMS:
        assert ingest_stream(far, name, settled=True).events > 0
    for name in STREAMS:
        copy_stream(far.table(name), FolderStore(tmp_path / "copy" / name))
    from_bucket, from_folder = built(far, tmp_path / "a"), built(near, tmp_path / "b")
    assert from_bucket.relations() == from_folder.relations()
    assert differences(from_bucket, from_folder) == {}
    assert from_bucket.rows("select count(*) from bookings")[0][0] > 0
