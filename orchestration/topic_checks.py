"""Checks on streams whose source is a topic: are there gaps, does the archive keep up, and do the brokers say the same.

What doesn't live here: how gaps come to be and what they are (`event_archive.sources.kafka`), and proof that the archive is
whole (`archive_checks`).
"""

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from event_archive.config import Config
from event_archive.errors import SourceProblem, SourceUnavailable
from event_archive.source_config import KafkaSource
from event_archive.sources.source_status import Gap
from event_archive.status import StreamStatus, stream_status
from orchestration.assets_ingest import stream_key
from orchestration.failures import one_sentence
from orchestration.markdown import markdown_table, markdown_text

NO_GAPS = "no_gaps"
LAG_BELOW = "lag_below"
MATCHES_BROKER = "archive_matches_broker"
_SHOWN = 20
_NAMED = 5


def topic_checks(config: Config, stream: str) -> list[dg.AssetChecksDefinition]:
    """Make the checks of one stream; none if its source is no topic."""
    source = config.stream(stream).source
    if not isinstance(source, KafkaSource):
        return []
    return [_follows(config, stream), _matches_broker(config, stream, source)]


def _follows(config: Config, stream: str) -> dg.AssetChecksDefinition:
    """One look at archive and brokers for both checks, which can be run one by one all the same."""
    key = stream_key(stream)
    limit = config.stream(stream).lag_below
    specs = [
        dg.AssetCheckSpec(
            NO_GAPS,
            asset=key,
            description="No events were gone from the topic before they could be archived, but for gaps found up to "
            "gaps_known_until of the configuration.",
        )
    ]
    if limit is not None:
        specs.append(
            dg.AssetCheckSpec(
                LAG_BELOW,
                asset=key,
                description=f"Fewer than {limit:,} events of the topic wait to be archived.",
            )
        )

    @dg.multi_asset_check(name=f"follows_topic_{stream}", specs=specs, can_subset=True)
    def follows_topic(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with one_sentence():
            status = stream_status(config, stream)
        selected = {check.name for check in context.selected_asset_check_keys}
        if NO_GAPS in selected:
            yield _no_gaps(config, status)
        if limit is not None and LAG_BELOW in selected:
            yield _lag_below(status, limit)

    return follows_topic


def _no_gaps(config: Config, status: StreamStatus) -> dg.AssetCheckResult:
    """Red until somebody who has looked says so in the configuration, whoever archived the stream meanwhile."""
    known_until = config.stream(status.stream).gaps_known_until
    is_ahead = known_until is not None and known_until > dt.datetime.now(dt.UTC)
    new = [
        gap
        for gap in status.gaps
        if known_until is None or is_ahead or dt.datetime.fromisoformat(gap.found_at) > known_until
    ]
    return dg.AssetCheckResult(
        check_name=NO_GAPS,
        asset_key=stream_key(status.stream),
        passed=not new,
        description=_new_gaps_say(new, is_ahead=is_ahead) if new else None,
        metadata={
            "gaps": len(status.gaps),
            "not known yet": len(new),
            "offsets in gaps": sum(gap.to_offset - gap.from_offset for gap in status.gaps),
            "the newest of them": dg.MetadataValue.md(_table(status.gaps) if status.gaps else "none"),
        },
    )


def _new_gaps_say(new: list[Gap], *, is_ahead: bool) -> str:
    named = [
        f"partition {gap.partition}, offsets {gap.from_offset} to {gap.to_offset - 1}"
        for gap in reversed(new[-_NAMED:])
    ]
    if len(new) > _NAMED:
        named.append(f"{len(new) - _NAMED} more")
    said = (
        f"Events were gone from the topic before they could be archived, and nobody has said yet that it's known: "
        f"{'; '.join(named)}."
    )
    if is_ahead:
        return f"{said} gaps_known_until lies in the future: write the time up to which somebody has looked at the gaps."
    return (
        f"{said} They stay recorded. Once it's clear what that means for readers, and why the ingest came too late, write "
        f"`gaps_known_until: {new[-1].found_at}` beside the stream's source in the configuration."
    )


def _table(gaps: tuple[Gap, ...]) -> str:
    return markdown_table(
        ["found at", "source", "partition", "from offset", "to offset", "offsets", "why"],
        [
            (
                gap.found_at,
                gap.source_id,
                gap.partition,
                gap.from_offset,
                gap.to_offset - 1,
                gap.to_offset - gap.from_offset,
                gap.reason,
            )
            for gap in reversed(gaps[-_SHOWN:])
        ],
    )


def _lag_below(status: StreamStatus, limit: int) -> dg.AssetCheckResult:
    lag = status.lag.events
    notes = [*status.unreadable, *status.notes]
    said = None
    if lag is None:
        said = " ".join(notes)
    elif lag >= limit:
        said = f"{lag:,} events wait to be archived, and {limit:,} are too many."
        if status.lag.held_back:
            said += f" {status.lag.held_back:,} of them wait for a transaction that is open."
    return dg.AssetCheckResult(
        check_name=LAG_BELOW,
        asset_key=stream_key(status.stream),
        passed=said is None,
        # What isn't known is no alarm of its own: an ingest that finds no brokers fails.
        severity=dg.AssetCheckSeverity.WARN if lag is None else dg.AssetCheckSeverity.ERROR,
        description=markdown_text(said),
        metadata={
            "lag (events)": dg.MetadataValue.null() if lag is None else lag,
            "limit": limit,
            "lag that waits for open transactions": status.lag.held_back,
            "worth knowing": dg.MetadataValue.json(notes[:_SHOWN]),
        },
    )


def _matches_broker(config: Config, stream: str, source: KafkaSource) -> dg.AssetChecksDefinition:
    key = stream_key(stream)
    spec = dg.AssetCheckSpec(
        MATCHES_BROKER,
        asset=key,
        description="Events drawn at random are the same at the brokers: key, value, headers and timestamp.",
    )

    # As a check of its own kind it may both record its result and fail the run: two truths are nothing to overlook.
    @dg.multi_asset_check(name=f"{MATCHES_BROKER}_{stream}", specs=[spec])
    def archive_matches_broker(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from event_archive.sources.kafka.sample import compare_sample  # only those who have topics pay for it

        seed = context.run.run_id
        contradictions: tuple[str, ...] = ()
        facts: dict[str, int] = {}
        said = failure = None
        severity = dg.AssetCheckSeverity.ERROR
        with one_sentence():
            try:
                sample = compare_sample(stream, source, config.table(stream), seed=seed)
            except SourceUnavailable as error:
                said, severity = f"Nothing could be compared. {error}", dg.AssetCheckSeverity.WARN
            except SourceProblem as error:  # it's another topic, or this user may not read it
                said = failure = str(error)
            else:
                contradictions = sample.differences
                facts = {
                    "events compared": sample.events,
                    "places drawn": sample.places,
                    "drawn from so many offsets": sample.still_there,
                    "archived, and gone from the brokers at these places": sample.gone,
                    "contradictions": len(contradictions),
                }
        if contradictions:
            said = contradictions[0]
            failure = (
                f"The archive of {stream} and its topic contradict each other: {said} Find out which of the two is right before "
                "anything is deleted from either; `event-archive verify` proves the archive against its own log."
            )
        passed = said is None
        if passed and not facts["places drawn"]:
            said = "Nothing was compared: the brokers have none of the archived events, or nothing is archived yet."
        yield dg.AssetCheckResult(
            check_name=MATCHES_BROKER,
            asset_key=key,
            passed=passed,
            severity=severity,
            description=markdown_text(said),
            metadata={
                **facts,
                "the first of them": dg.MetadataValue.json(contradictions[:_SHOWN]),
                "seed": seed,
                "read from": f"topic {source.topic} at {source.brokers}",
                "compared with": dg.MetadataValue.path(config.table(stream).url),
            },
        )
        if failure:
            raise dg.Failure(description=failure)

    return archive_matches_broker
