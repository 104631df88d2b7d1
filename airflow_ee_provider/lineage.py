"""What exports wrote, told to OpenLineage and to Airflow's assets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_ee_provider.earth_engine.destinations import dataset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context


def operator_lineage(destination_uris: Iterable[str]) -> Any:
    """Return an OperatorLineage with the destinations as outputs; only called where OpenLineage is installed."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(outputs=[Dataset(*dataset(uri)) for uri in destination_uris])


def announce(context: Context, outlets: Iterable[Any], destination_uris: Iterable[str]) -> None:
    """Let each AssetAlias among a task's outlets stand for what the exports have written."""
    assets = [Asset("/".join(dataset(uri))) for uri in destination_uris if dataset(uri)[0].startswith("gs://")]
    for alias in outlets:
        for asset in assets if isinstance(alias, AssetAlias) else ():
            context["outlet_events"][alias].add(asset)
