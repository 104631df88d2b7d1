"""What exports wrote, told to OpenLineage and to Airflow's assets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_ee_provider.earth_engine.model.destinations import link_to, openlineage_dataset
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.drivers import Log


def operator_lineage(destination_uris: Iterable[str]) -> Any:
    """Return an OperatorLineage with the destinations as outputs; only called where OpenLineage is installed."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(outputs=[Dataset(*openlineage_dataset(uri)) for uri in destination_uris if link_to(uri)])


def add_outlet_assets(context: Context, outlets: Iterable[Any], destination_uris: Iterable[str], log: Log) -> None:
    """Let each AssetAlias among a task's outlets stand for what the exports have written; never fail."""
    for uri in destination_uris:
        if not link_to(uri):
            log.warning("No lineage for the destination %s: its address is not supported.", escaped_for_log(repr(uri)))
            continue
        namespace, name = openlineage_dataset(uri)
        if namespace.startswith("gs://"):
            try:
                _add(context, outlets, Asset(f"{namespace}/{name}"))
            except Exception as error:  # noqa: BLE001 (Airflow may raise any exception, and the export has succeeded)
                log.warning("No lineage for the destination %s: %s", escaped_for_log(repr(uri)), error)


def _add(context: Context, outlets: Iterable[Any], asset: Asset) -> None:
    for alias in outlets:
        if isinstance(alias, AssetAlias):
            context["outlet_events"][alias].add(asset)
