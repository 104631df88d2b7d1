"""A task that sleeps in the triggerer, and tasks that export."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task
from waiting import SleepOperator

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator

BODY = {
    "description": "{{ dag.dag_id }}",
    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
    "fileExportOptions": {"fileFormat": "GEO_TIFF", "cloudStorageDestination": {"bucket": "bucket"}},
}

with DAG("asked_nothing", schedule=None):
    SleepOperator(task_id="task", seconds=10, body=BODY)

for name, deferrable in (("worker", False), ("deferred", True)):
    with DAG(f"asked_{name}", schedule=None) as dag:
        EarthEngineExportOperator(task_id="task", kind="image", body=BODY, deferrable=deferrable, poll_interval=5)
    globals()[dag.dag_id] = dag

with DAG("asked_hundred", schedule=None):

    @task.earth_engine(task_id="task", deferrable=True, poll_interval=5)
    def exports() -> list[Any]:
        """Return a hundred exports."""
        import ee

        return [
            ee.batch.Export.image.toCloudStorage(ee.Image(number), f"export-{number}", bucket="bucket", scale=1000)
            for number in range(100)
        ]

    exports()
