"""The DAGs that an author runs: one export, or one sensor, deferrable or not, with and without retries."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

AGAIN: dict[str, Any] = {"retry_delay": timedelta(0), "poll_interval": 1}


def export() -> Any:
    """Return an export."""
    import ee

    region = ee.Geometry.Rectangle([0, 0, 0.01, 0.01])
    return ee.batch.Export.image.toCloudStorage(ee.Image("CGIAR/SRTM90_V4"), "tried", "bucket", region=region)


def export_and_fail() -> None:
    """Start an export, and raise an error."""
    export().start()
    raise ValueError("It was started, and is to be cancelled.")


def sensor(**options: Any) -> None:
    """Add a sensor that owns the operation it waits for."""
    EarthEngineOperationsSensor(operation_names=os.environ.get("OPERATION", ""), cancel_on_kill=True, **options)


STARTED = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOLDERS = {
    "export": lambda **options: task.earth_engine(**options)(export)(),
    "failing": lambda **options: task.earth_engine(**options)(export_and_fail)(),
    "sensor": sensor,
}

for holder, hold in HOLDERS.items():
    for deferrable in (False, True):
        for retries in (0, 2):
            way = "deferrable" if deferrable else "worker"
            with DAG(f"{holder}_{way}_{retries}", schedule=None, start_date=STARTED) as dag:
                hold(task_id="task", deferrable=deferrable, retries=retries, **AGAIN)
            globals()[dag.dag_id] = dag

if __name__ == "__main__":
    globals()[os.environ["TRIED"]].test()
