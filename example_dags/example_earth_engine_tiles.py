"""Export hundreds of tiles from one task, at most a hundred at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator

#: Degrees: west, south, east, north of Switzerland, and the side of a tile.
REGION, TILE = (6.0, 45.5, 10.5, 48.0), 0.2

with DAG(
    "example_earth_engine_tiles",
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(days=3),
    tags=["example", "earth-engine"],
    params={"bucket": Param("my-bucket", type="string")},
):

    @task.earth_engine(
        deferrable=True,
        retries=3,
        max_active_operations=100,
        max_failures=0.02,
        max_total_eecu_seconds=100 * 3600,
    )
    def export_tiles(run_id: str, params: dict[str, Any]) -> list[Any]:
        """Return one export for each tile. A retry calls it again, so it has to return the same exports each time."""
        import ee

        elevation = ee.Image("CGIAR/SRTM90_V4")
        west, south, east, north = REGION
        columns, rows = round((east - west) / TILE), round((north - south) / TILE)
        return [
            ee.batch.Export.image.toCloudStorage(
                elevation,
                f"tile-{column}-{row}",
                bucket=params["bucket"],
                fileNamePrefix=f"{run_id}/tile-{column}-{row}",
                region=ee.Geometry.Rectangle(
                    [
                        west + column * TILE,
                        south + row * TILE,
                        west + (column + 1) * TILE,
                        south + (row + 1) * TILE,
                    ]
                ),
                scale=90,
            )
            for column in range(columns)
            for row in range(rows)
        ]

    @task
    def use(operations: list[dict[str, Any]]) -> None:
        """Print how many tiles were exported, and what they used."""
        tiles = [operation for operation in operations if operation["state"] == "SUCCEEDED"]
        print(len(tiles), "tiles,", sum(tile["batch_eecu_usage_seconds"] or 0 for tile in tiles), "EECU-seconds")  # noqa: T201

    use(export_tiles()) >> EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()
