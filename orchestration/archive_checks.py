"""Checks on the archived streams that run apart from the ingest: is all of it whole, and do the newest events look right.

What doesn't live here: the proof itself (`event_archive.verify`), what is expected (`expectations`), and the models' tests,
which come from dbt.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from event_archive.archive.snapshot import Snapshot, local_file, read_snapshot
from event_archive.config import Config
from event_archive.heads.recorded import recorded_faults
from event_archive.sql.views import archive_select
from event_archive.verify import verify_stream
from orchestration.assets_ingest import stream_key
from orchestration.expectations import SUITES, Suite
from orchestration.failures import one_sentence
from orchestration.markdown import markdown_table
from orchestration.run_heads import faults_of_runs

if TYPE_CHECKING:
    import pandas as pd

IS_WHOLE = "archive_is_whole"
LOOKS_RIGHT = "newest_events_look_right"
NEWEST_EVENTS = 20_000
_SHOWN = 20
_EXAMPLES = 5


def archive_checks(config: Config, stream: str) -> list[dg.AssetChecksDefinition]:
    """Make the checks of one stream; the second only where something is expected of its events."""
    checks = [_is_whole(config, stream)]
    if stream in SUITES:
        checks.append(_looks_right(config, stream, SUITES[stream]))
    return checks


def _is_whole(config: Config, stream: str) -> dg.AssetChecksDefinition:
    key = stream_key(stream)
    spec = dg.AssetCheckSpec(
        IS_WHOLE,
        asset=key,
        description="Every byte of the archived stream is what its log says: hashes, chain, counts, positions; and it still holds "
        "the commits that the last ingests have left.",
    )

    # As a check of its own kind it may both record its result and fail the run: damage is nothing to overlook.
    @dg.multi_asset_check(name=f"{IS_WHOLE}_{stream}", specs=[spec])
    def archive_is_whole(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with one_sentence():
            report = verify_stream(config, stream)
            faults = faults_of_runs(context.instance, key, config, stream) + recorded_faults(config, stream)
            report = report.with_heads(config.table(stream), faults)
        damages = [str(damage) for damage in report.damages]
        yield dg.AssetCheckResult(
            check_name=IS_WHOLE,
            asset_key=key,
            passed=report.is_whole,
            description=damages[0] if damages else None,
            metadata={
                "commits": report.commits,
                "files": report.files,
                "events": report.events,
                "bytes read": report.bytes_read,
                "archive version": report.version,
                "damages": len(damages),
                "the first of them": dg.MetadataValue.json(damages[:_SHOWN]),
                "read from": dg.MetadataValue.path(config.table(stream).url),
            },
        )
        if damages:
            raise dg.Failure(
                description=f"The archive of {stream} is damaged in {len(damages)} place{'s' if len(damages) > 1 else ''}, "
                f"the first being {damages[0].rstrip('.')}; restore the named files from a backup and run this job again."
            )

    return archive_is_whole


def _looks_right(config: Config, stream: str, suite: Suite) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=stream_key(stream),
        name=LOOKS_RIGHT,
        description=f"The newest {NEWEST_EVENTS:,} events are as expected, but for a few (a Great Expectations suite).",
    )
    def newest_events_look_right() -> dg.AssetCheckResult:
        with one_sentence():
            snapshot = read_snapshot(config.table(stream))
        if not snapshot.events:
            return dg.AssetCheckResult(passed=True, description="Nothing has been archived yet.")
        frame = newest_events(snapshot, suite)
        outcomes = validate(frame, suite)
        failed = [outcome for outcome in outcomes if not outcome["success"]]
        return dg.AssetCheckResult(
            passed=not failed,
            description=f"{len(failed)} of {len(outcomes)} expectations are not met" if failed else None,
            metadata={
                "events looked at": len(frame),
                "archive version": snapshot.version,
                "expectations": dg.MetadataValue.md(_overview(outcomes)),
                "examples": dg.MetadataValue.md(_examples(outcomes, frame) or "none"),
                "read from": dg.MetadataValue.path(config.table(stream).url),
            },
        )

    return newest_events_look_right


def newest_events(snapshot: Snapshot, suite: Suite, *, limit: int = NEWEST_EVENTS) -> "pd.DataFrame":
    """Read the fields that a suite is about from the newest events: those of the last commits, the last of each first.

    Returns:
        At most `limit` rows with `event` (where it came from), `is_json_object` and one text column per field.
    """
    newest: list[str] = []
    events = 0
    # By the events' commits: a file that compaction made has old ones.
    for file in sorted(
        snapshot.files, key=lambda file: file.stats["maxValues"]["commit_version"], reverse=True
    ):
        newest.append(str(local_file(snapshot.table, file)))
        events += file.num_records
        if events >= limit:
            break
    paths = ", ".join(f"'$.{name}'" for name in suite.fields)
    columns = ", ".join(f"fields[{number}] as {name}" for number, name in enumerate(suite.fields, 1))
    query = (
        f"with newest as (select * from ({archive_select(newest, with_payload=True)}) "
        f"order by commit_version desc, source_id desc, source_offset desc limit {limit}), "
        "decoded as (select source_id || ' @ ' || source_offset as event, coalesce(json_type(payload) = 'OBJECT', false) "
        f"as is_json_object, json_extract_string(payload, [{paths}]) as fields from newest) "
        f"select event, is_json_object, {columns} from decoded"
    )
    with closing(duckdb.connect()) as connection:
        return connection.execute(query).df()


def validate(frame: "pd.DataFrame", suite: Suite) -> list[dict[str, Any]]:
    """Run a suite over a frame with Great Expectations, in a context that lives only here.

    Returns:
        One result per expectation, as Great Expectations writes it as JSON.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when it is imported
    import great_expectations as gx  # takes seconds, which only this check should pay
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    batches = context.data_sources.add_pandas("pandas").add_dataframe_asset("newest_events")
    batch = batches.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    expectations = [
        getattr(gx.expectations, expectation.name)(**expectation.arguments)
        for expectation in suite.expectations
    ]
    result = batch.validate(
        gx.ExpectationSuite(name="newest_events", expectations=expectations),
        result_format={"result_format": "COMPLETE", "partial_unexpected_count": _EXAMPLES},
    )
    results: list[dict[str, Any]] = result.to_json_dict()["results"]  # type: ignore[no-untyped-call]
    return results


def _overview(outcomes: list[dict[str, Any]]) -> str:
    return markdown_table(
        ["expectation", "column", "met", "unexpected"],
        [
            (
                outcome["expectation_config"]["type"],
                outcome["expectation_config"]["kwargs"].get("column"),
                "yes" if outcome["success"] else "NO",
                f"{outcome['result'].get('unexpected_percent') or 0:.2f} %",
            )
            for outcome in outcomes
        ],
    )


def _examples(outcomes: list[dict[str, Any]], frame: "pd.DataFrame") -> str | None:
    """Events that were not as expected, of failed expectations first, each with where it came from."""
    rows: list[tuple[str, str, str, Any]] = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome["success"]):
        kind, column = (
            outcome["expectation_config"]["type"],
            outcome["expectation_config"]["kwargs"].get("column"),
        )
        found = (outcome["result"].get("unexpected_index_list") or [])[:_EXAMPLES]
        rows += [(kind, frame["event"][index], column, frame[column][index]) for index in found]
    return markdown_table(["expectation", "event", "column", "value"], rows[:_SHOWN]) if rows else None
