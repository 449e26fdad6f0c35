"""The dbt models as assets: a run computes them through the library, all in one step; days of day level models in a step of their own.

What doesn't live here: what a step does and reports (`warehouse_step`), and which days there are (`days`).
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets

from event_archive.config import Config
from event_archive.recompute.ranges import range_of_days
from event_archive.recompute.request import Request
from event_archive.warehouse_config import PublishPolicy
from orchestration.days import day_partitions
from orchestration.dbt_manifest import is_of_day_level
from orchestration.dbt_results import Models
from orchestration.failures import RETRIES, one_sentence
from orchestration.markdown import markdown_text
from orchestration.reporting import Event
from orchestration.warehouse_step import check_step, recompute_step

WAREHOUSE_OP = "warehouse"
DAYS_OP = "days"
DAYS_GROUP = "daily"
WAREHOUSE_POOL = "warehouse"


class Publish(Enum):
    """The library's `PublishPolicy`, under the names that the launchpad offers."""

    always = PublishPolicy.ALWAYS
    if_equal = PublishPolicy.IF_EQUAL
    ask = PublishPolicy.ASK


class HowToPublish(dg.Config):
    """What the launchpad asks for before it computes days again.

    Attributes:
        publish: When the result is published, instead of what the configuration says.
    """

    publish: Publish | None = None


class HowToBuild(HowToPublish):
    """What the launchpad asks for before it computes tables.

    Attributes:
        rebuild: Compute every selected table again from the archive, instead of adding what is new.
        ingested: Compute again only what events that were archived on these days (UTC) have a part in, such as `2026-01-05..2026-01-06`, or one
            day; of the selected tables, or of all.
        publish: When the result is published, instead of what the configuration says.
    """

    rebuild: bool = False
    ingested: str | None = None


class Translator(DagsterDbtTranslator):
    """dagster-dbt's translation, with the models grouped by domain, the day level ones by themselves, and tagged with their layer.

    Domain and layer are folders of the dbt project: models/<layer>/<domain>/….
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
        group = domain[0] if domain else layer
        return spec.replace_attributes(
            group_name=DAYS_GROUP if is_of_day_level(node) else group, tags={**spec.tags, "layer": layer}
        )


def warehouse_assets(config: Config, models: Models) -> list[dg.AssetsDefinition]:
    """Make the assets of all models: those of day level, if there are any, apart, since their partitions are days.

    Args:
        config: The configuration; says where the archive and the warehouse are.
        models: The models.
    """
    archive = config

    @dbt_assets(
        manifest=models.manifest,
        select=_selection(models, of_day_level=False),
        name=WAREHOUSE_OP,
        dagster_dbt_translator=models.translator,
        pool=WAREHOUSE_POOL,
        retry_policy=RETRIES,
    )
    def warehouse(context: dg.AssetExecutionContext, config: HowToBuild) -> Iterator[Event]:
        is_whole = context.selected_asset_keys == set(context.assets_def.node_keys_by_output_name.values())
        with one_sentence():
            if not context.selected_asset_keys:
                yield from check_step(context, archive, models, _selected_tests(context, models))
                return
            select = (
                [] if is_whole else [*_selected_models(context, models), *_selected_tests(context, models)]
            )
            ingested = range_of_days("ingested", config.ingested)
            if ingested is not None and not is_whole:
                select = sorted(models.table(models.by_key[key]) for key in context.selected_asset_keys)
            request = Request(
                is_rebuild=config.rebuild or ingested is not None, select=tuple(select), ingested=ingested
            )
            yield from recompute_step(context, _publishing(archive, config), models, request)

    if not models.days:
        return [warehouse]

    @dbt_assets(
        manifest=models.manifest,
        select=_selection(models, of_day_level=True),
        name=DAYS_OP,
        dagster_dbt_translator=models.translator,
        partitions_def=day_partitions(config.warehouse, models.days.values()),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
        retry_policy=RETRIES,
    )
    def days(context: dg.AssetExecutionContext, config: HowToPublish) -> Iterator[Event]:
        with one_sentence():
            if not context.selected_asset_keys:
                yield from check_step(context, archive, models, _selected_tests(context, models))
                return
            asked = context.partition_key_range
            request = Request(
                is_rebuild=True,
                select=tuple(sorted(models.table(models.by_key[key]) for key in context.selected_asset_keys)),
                days=(dt.date.fromisoformat(asked.start), dt.date.fromisoformat(asked.end)),
            )
            yield from recompute_step(context, _publishing(archive, config), models, request)

    return [warehouse, days]


def _selection(models: Models, *, of_day_level: bool) -> str:
    """Models as dbt selects them, one by one: were the others excluded, so would be the tests that are over both kinds."""
    nodes = [models.node(unique_id) for unique_id in models.by_key.values()]
    return " ".join(
        f"fqn:{'.'.join(node['fqn'])}" for node in nodes if (node["alias"] in models.days) is of_day_level
    )


def _selected_models(context: dg.AssetExecutionContext, models: Models) -> list[str]:
    nodes = (models.node(models.by_key[key]) for key in context.selected_asset_keys)
    return sorted(f"fqn:{node['name']}" for node in nodes)


def _selected_tests(context: dg.AssetExecutionContext, models: Models) -> list[str]:
    """Those of tables that aren't selected; dbt makes those of the others anyway."""
    keys = (
        key for key in context.selected_asset_check_keys if key.asset_key not in context.selected_asset_keys
    )
    return sorted(f"fqn:{models.node(models.tests[key])['name']}" for key in keys)


def _publishing(archive: Config, config: HowToPublish) -> Config:
    return archive.model_copy(update={"publish": config.publish.value}) if config.publish else archive
