"""Limit the compute that exports may use: of each export, and of all exports of a task together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

with DAG(
    "example_earth_engine_budget",
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(hours=24),
    tags=["example", "earth-engine"],
    params={"bucket": Param("my-bucket", type="string"), "eecu_hours": Param(20, type="integer")},
):
    # An export that has used five EECU-hours is cancelled. When the three have used `eecu_hours` together, those that
    # still run are cancelled. Cloud Monitoring reports their costs under the tag.
    @task.earth_engine(
        deferrable=True,
        workload_tag="monthly-ndvi",
        max_eecu_seconds=5 * 3600,
        max_total_eecu_seconds="{{ params.eecu_hours * 3600 }}",
    )
    def export(run_id: str, params: dict[str, Any]) -> list[Any]:
        """Return one export for each year."""
        import ee

        where = {"bucket": params["bucket"], "scale": 1000}
        return [
            ee.batch.Export.image.toCloudStorage(
                ee.Image(year), f"ndvi-{year}", fileNamePrefix=f"{run_id}/{year}", **where
            )
            for year in (2022, 2023, 2024)
        ]

    export()
