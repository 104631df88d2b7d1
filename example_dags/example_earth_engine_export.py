"""Start an export exactly once, wait for it without a worker slot, and cancel it when nobody wants it any more.

The body is the API's own JSON, here that of ``ee.Image(1)``; ``ee.Image(…).serialize()`` gives such an expression.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

with DAG(
    "example_earth_engine_export",
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(hours=12),
    tags=["example", "earth-engine"],
    params={"bucket": Param("my-bucket", type="string")},
):
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
