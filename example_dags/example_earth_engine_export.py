"""Start exports exactly once, wait for them in the triggerer, and cancel them when no task needs them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

ARGUMENTS: dict[str, Any] = {
    "catchup": False,
    "dagrun_timeout": timedelta(hours=12),
    "tags": ["example", "earth-engine"],
    "params": {"bucket": Param("my-bucket", type="string")},
}

# The function uses Earth Engine's own client. `ee` is initialised from the Airflow connection, and the task starts the
# exports that the function returns. If one of several exports fails, the task cancels the others.
with DAG("example_earth_engine_export", schedule=None, **ARGUMENTS):

    @task.earth_engine(deferrable=True, retries=2, max_eecu_seconds=50 * 3600)
    def export(run_id: str, params: dict[str, Any]) -> list[Any]:
        """Return the export of an image and of a table."""
        import ee

        destination = {"bucket": params["bucket"], "fileNamePrefix": f"{run_id}/out"}
        sites = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([7.4, 46.9]), {"name": "Bern"})])
        return [
            ee.batch.Export.image.toCloudStorage(ee.Image(1), "an-image", scale=1000, **destination),
            ee.batch.Export.table.toCloudStorage(sites, "a-table", **destination),
        ]

    @task
    def use(operations: list[dict[str, Any]]) -> None:
        """Print where the results are."""
        for operation in operations:
            print(operation["description"], operation["destination_uris"], operation["duration_seconds"])  # noqa: T201

    use(export())

# The request body of the REST API. The expression is that of `ee.Image(1)`; `ee.Image(…).serialize()` returns it.
with DAG("example_earth_engine_export_json", schedule=None, **ARGUMENTS):
    EarthEngineExportOperator(
        task_id="export",
        kind="image",
        body={
            "description": "{{ dag.dag_id }}",
            "expression": {
                "result": "0",
                "values": {
                    "0": {
                        "functionInvocationValue": {
                            "functionName": "Image.constant",
                            "arguments": {"value": {"constantValue": 1}},
                        }
                    }
                },
            },
            "fileExportOptions": {
                "fileFormat": "GEO_TIFF",
                "cloudStorageDestination": {"bucket": "{{ params.bucket }}", "filenamePrefix": "{{ run_id }}"},
            },
        },
        max_eecu_seconds=50 * 3600,
        deferrable=True,
        retries=2,
    )
