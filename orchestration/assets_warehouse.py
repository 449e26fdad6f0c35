"""The dbt models as assets: each run fills a build beside the published tables, and publishes it only if every check passes.

What doesn't live here: the build and its switch (`event_archive.warehouse`), how dbt is started (`dbt_cli`), and what is
said about a dbt run (`dbt_results`).
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets

from event_archive.config import Config
from event_archive.warehouse import BuildMode, PublishedBuild, pin_streams, publish, start_build
from orchestration.dbt_cli import QUIET, DbtCli, environment
from orchestration.dbt_results import DbtOutcome, follow, row_counts
from orchestration.failures import one_sentence
from orchestration.markdown import markdown_text

WAREHOUSE_OP = "warehouse"
WAREHOUSE_POOL = "warehouse"

# The pool lets runs wait for each other where they can be seen to. But at its first use by two runs at once, Dagster's SQLite
# storage may let both in (seen now and then under load), and builds that aren't Dagster's are not in it at all.
_PATIENCE_SECONDS = 900

_Events: TypeAlias = dg.Output[None] | dg.AssetCheckResult | dg.AssetObservation


class HowToBuild(dg.Config):
    """What the launchpad asks for.

    Attributes:
        rebuild: Compute every selected table again from the archive, instead of adding what is new.
    """

    rebuild: bool = False


class Translator(DagsterDbtTranslator):
    """dagster-dbt's translation, with the models grouped by domain and tagged with their layer.

    Both are folders of the dbt project: models/<layer>/<domain>/….
    """

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """Describe one model, seed or source."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if node["resource_type"] != "model":
            return spec
        columns = spec.metadata.get("dagster/column_schema")
        if isinstance(columns, dg.TableSchema):
            shown = [
                dg.TableColumn(
                    column.name,
                    column.type,
                    markdown_text(column.description),
                    column.constraints,
                    column.tags,
                )
                for column in columns.columns
            ]
            spec = spec.merge_attributes(metadata={"dagster/column_schema": dg.TableSchema(columns=shown)})
        layer, *domain = node["fqn"][1:-1] or ["models"]
        return spec.replace_attributes(
            group_name=domain[0] if domain else layer, tags={**spec.tags, "layer": layer}
        )


def warehouse_assets(config: Config, manifest: Mapping[str, Any]) -> dg.AssetsDefinition:
    """Make the assets of all models.

    Args:
        config: The configuration; says where the archive and the warehouse are.
        manifest: The dbt project's manifest.
    """

    @dbt_assets(
        manifest=manifest,
        name=WAREHOUSE_OP,
        dagster_dbt_translator=Translator(),
        pool=WAREHOUSE_POOL,
    )
    def warehouse(context: dg.AssetExecutionContext, dbt: DbtCli, config: HowToBuild) -> Iterator[_Events]:
        with one_sentence():
            yield from _build(context, dbt, archive, rebuild=config.rebuild)

    archive = config
    return warehouse


def _build(
    context: dg.AssetExecutionContext, dbt: DbtCli, config: Config, *, rebuild: bool
) -> Iterator[_Events]:
    # A rebuild of some models must not lose the others: then it starts from a copy too, and only those are built in full.
    is_whole = context.selected_asset_keys == set(context.assets_def.node_keys_by_output_name.values())
    mode = BuildMode.REBUILD if rebuild and is_whole else BuildMode.REFRESH
    with start_build(
        config.warehouse, mode=mode, streams=partial(pin_streams, config), wait_seconds=_PATIENCE_SECONDS
    ) as build:
        with environment({**build.environment(), **QUIET}):
            invocation = dbt.cli(
                ["build", *(["--full-refresh"] if rebuild else [])],
                context=context,
                raise_on_error=False,
                target_path=build.folder / "dbt",
            )
        outcome = follow(invocation, context, build.file)
        if outcome.failure is not None:
            build.discard(outcome.failure)
            yield from outcome.checks
            raise dg.Failure(description=outcome.failure)
        if outcome.built:
            published = publish(build, built_by=f"Dagster run {context.run_id}")
            yield from _materializations(outcome, published)
        else:
            build.discard("only checks were asked for, so there is nothing to publish")
    yield from outcome.checks


def _materializations(outcome: DbtOutcome, published: PublishedBuild) -> Iterator[dg.Output[None]]:
    rows = row_counts(published.file)
    digests = {mart.mart: mart.digest for mart in published.marts}
    for output, node in outcome.built:
        schema, table = node["schema"], node["alias"]
        digest = digests.get(table) if schema == "main" else None
        metadata: dict[str, Any] = {
            **output.metadata,
            "build": published.build_id,
            "how": published.mode,
            "archive versions": dg.MetadataValue.json(published.versions),
            "read from": dg.MetadataValue.path(published.snapshot_file),
            "written to": dg.MetadataValue.path(published.file),
        }
        if (schema, table) in rows:  # a view has no rows of its own
            metadata["dagster/row_count"] = rows[schema, table]
        if digest is not None:
            metadata["digest"] = digest
        yield dg.Output(
            None,
            output_name=output.output_name,
            metadata=metadata,
            data_version=dg.DataVersion(digest) if digest is not None else None,
        )
