"""A whole archive in a bucket, through the command line: ingested, looked at, proved, queried; on good networks and bad ones."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from event_archive.errors import StorageError
from event_archive.ingest import ingest_stream
from event_archive.sealing import seal
from event_archive.storage.opening import open_store
from event_archive.verify import verify_stream
from tests.storage.fault_proxy import LOST_ANSWER, LOST_REQUEST, Fault, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Project
    from tests.storage.fault_proxy import FaultProxy
    from tests.storage.servers import Server

LINES = 40


@pytest.fixture
def bucket(project: Project, server: Server) -> str:
    """A project whose archive lies in a new bucket; its name."""
    name = server.new_bucket()
    configure(project, name, server.endpoint_url)
    return name


def configure(project: Project, bucket: str, endpoint_url: str, further: str = "") -> None:
    """Writes the configuration; `further` is YAML of the top level."""
    open_store.cache_clear()  # a process has one environment; a test has its own
    project.config_file.write_text(
        f"archive: s3://{bucket}/the/archive\nwarehouse: warehouse\n"
        f"s3: {{endpoint_url: '{endpoint_url}', region: us-east-1}}\n"
        "cache: {path: cache, max_bytes: 100MB}\n"
        f"{further}\n"
        "streams:\n  events:\n    source: {type: files, path: landing}\n"
    )


def land(project: Project, first: int, last: int) -> None:
    """Puts files with `LINES` events each into the landing folder."""
    for number in range(first, last):
        lines = (json.dumps({"file": number, "line": line}) + "\n" for line in range(LINES))
        project.write(f"{number:03d}.jsonl", "".join(lines).encode())


def ran(project: Project, *arguments: str) -> str:
    """What a command printed that must succeed."""
    run = project.run(*arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def assert_holds(project: Project, files: int) -> None:
    """Each event of so many files is in the archive once, and every byte of it is right."""
    query = "select count(*) as n, count(distinct source_id || ' ' || (payload ->> 'line')) as d from archive.events"
    assert rows_of(ran(project, "sql", query, "--format", "json")) == [
        {"n": files * LINES, "d": files * LINES}
    ]
    report = verify_stream(project.config(), "events")
    assert report.is_whole, report


def rows_of(printed: str) -> Any:
    """Rows of a query, printed as JSON, in lines or as a list."""
    text = printed.strip()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def test_an_archive_in_a_bucket_is_used_like_any_other(project: Project, bucket: str) -> None:
    """Ingest, status, sql, verify, and ingest once more."""
    land(project, 0, 3)
    ran(project, "ingest")
    status = json.loads(ran(project, "status", "--json"))["streams"][0]
    assert status["events"] == 3 * LINES
    ran(project, "verify")
    assert_holds(project, 3)
    land(project, 3, 5)
    ran(project, "ingest")
    ran(project, "ingest")
    ran(project, "verify")
    assert_holds(project, 5)


def test_copies_are_kept_between_queries(project: Project, bucket: str) -> None:
    """The second query reads no data file from the bucket: it doesn't notice that they are gone."""
    land(project, 0, 2)
    ran(project, "ingest")
    query = ("sql", "select count(*) as n from archive.events", "--format", "json")
    assert rows_of(ran(project, *query)) == [{"n": 2 * LINES}]
    table = project.config().table("events")
    for file in [file.name for file in table.files() if file.name.endswith(".parquet")]:
        table.delete(file)
    assert rows_of(ran(project, *query)) == [{"n": 2 * LINES}]
    assert project.run("verify").returncode == 1


def test_a_query_that_needs_more_than_the_cache_says_so(
    project: Project, bucket: str, server: Server
) -> None:
    """With the key to change."""
    land(project, 0, 1)
    ran(project, "ingest")
    configuration = project.config_file.read_text().replace("100MB", "1KB")
    project.config_file.write_text(configuration)
    run = project.run("sql", "select count(*) from archive.events")
    assert run.returncode == 2
    assert "cache.max_bytes" in run.stderr


def test_damage_in_the_bucket_is_found(project: Project, bucket: str, server: Server) -> None:
    """By verify, from the bucket itself, although a whole copy lies in the cache; and named."""
    land(project, 0, 2)
    ran(project, "ingest")
    assert_holds(project, 2)
    (file,) = [file for file in project.config().table("events").files() if file.name.endswith(".parquet")]
    key, client = f"the/archive/events/{file.name}", server.client()
    content = bytearray(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=key, Body=bytes(content))
    run = project.run("verify")
    assert run.returncode == 1
    assert file.name.rpartition("/")[2][:40] in run.stdout.replace("\n", "") + run.stderr.replace("\n", "")


def test_two_writers_that_race_archive_each_event_once(project: Project, bucket: str) -> None:
    """Processes that ingest the same files at the same time, again and again."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom event_archive.config import load_config\n"
        "from event_archive.errors import CommitConflict\nfrom event_archive.ingest import ingest_stream\n"
        "sys.stdin.readline()\n"
        "for _ in range(20):\n"
        "    try:\n        ingest_stream(load_config(Path(sys.argv[1])), 'events')\n"
        "    except CommitConflict:\n        pass\n"
        "print('done')\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(project.config_file)],
            cwd=project.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for first in range(0, 12, 2):
        land(project, first, first + 2)
    for writer in writers:
        assert writer.communicate(timeout=180)[0] == "done\n"
    ran(project, "ingest")
    assert_holds(project, 12)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network_costs_time_and_no_event(
    project: Project, bucket: str, proxy: FaultProxy, server: Server, seed: int
) -> None:
    """A fifth of all requests fails somehow, while eight batches are ingested and proved."""
    choice = random.Random(seed)
    faults = [LOST_REQUEST, LOST_ANSWER, Fault(500), Fault(503), Fault(500, is_forwarded=True)]

    def rule(request: Request) -> Fault | None:
        if choice.random() > 0.2:
            return None
        cut = [Fault(body_bytes=choice.randrange(200))] if request.method == "GET" else []
        return choice.choice(faults + cut)

    proxy.rules.append(rule)
    configure(project, bucket, proxy.endpoint_url)
    for batch in range(8):
        land(project, batch, batch + 1)
        assert ingest_stream(project.config(), "events").events == LINES
    assert verify_stream(project.config(), "events").is_whole
    assert proxy.faults > 10
    configure(project, bucket, server.endpoint_url)
    assert_holds(project, 8)


@pytest.mark.usefixtures("impatient")
def test_a_network_that_goes_away_for_good_loses_nothing(
    project: Project, bucket: str, proxy: FaultProxy, server: Server
) -> None:
    """At whichever request it goes: the next ingest, on a good network, archives each event once."""
    for files, alive in enumerate(range(0, 16, 2), start=1):
        land(project, files - 1, files)
        proxy.rules[:] = [_gone_after(proxy, len(proxy.requests) + alive)]
        configure(project, bucket, proxy.endpoint_url)
        try:
            ingest_stream(project.config(), "events")
        except StorageError as error:
            assert "s3://" in str(error)  # noqa: PT017 - whether it comes depends on how many requests there are
        configure(project, bucket, server.endpoint_url)
        ingest_stream(project.config(), "events")
    assert_holds(project, 8)


def _gone_after(proxy: FaultProxy, last: int) -> Callable[[Request], Fault | None]:
    """Every other answer of the dead network was for something that the service has done."""

    def rule(_: Request) -> Fault | None:
        if len(proxy.requests) <= last:
            return None
        return LOST_ANSWER if len(proxy.requests) % 2 else LOST_REQUEST

    return rule


def test_an_archive_under_object_lock_goes_on_working(project: Project, server: Server) -> None:
    """Ingest, sealing, sql and verify; every file is locked but the one that only points to another."""
    bucket = server.new_bucket(ObjectLockEnabledForBucket=True)
    configure(project, bucket, server.endpoint_url, "read_only_files: true")
    text = project.config_file.read_text().replace(
        "region: us-east-1", "region: us-east-1, object_lock_days: 30"
    )
    project.config_file.write_text(text)
    for batch in range(3):
        land(project, batch, batch + 1)
        ran(project, "ingest")
    assert seal(project.config().table("events"), at_least=2)
    land(project, 3, 4)
    ran(project, "ingest")
    assert_holds(project, 4)
    client = server.client()
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        if item["Key"].endswith("_last_checkpoint"):
            continue
        head = client.head_object(Bucket=bucket, Key=item["Key"])
        assert head["ObjectLockMode"] == "GOVERNANCE", item["Key"]
