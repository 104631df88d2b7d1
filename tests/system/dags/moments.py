"""Tasks that an event can hit at any moment of their start, in DAGs without a callback or teardown."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

#: Seconds that a function works before it makes its exports: real functions take seconds to minutes.
WORK = 3.0


def export(dag_id: str, exports: int) -> Any:
    import ee

    time.sleep(WORK)
    image = ee.Image(1)
    return [
        ee.batch.Export.image.toCloudStorage(image, f"{dag_id}-{n}", bucket="b", scale=1000) for n in range(exports)
    ]


def starting_itself(dag_id: str, exports: int) -> None:
    for made in export(dag_id, exports):
        made.start()
        time.sleep(0.3)


BODY = {
    "description": "{{ run_id }}-0",
    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}


def exporting(deferrable: bool) -> None:
    @task.earth_engine(task_id="hold", deferrable=deferrable, poll_interval=1)
    def hold(run_id: str) -> Any:
        return export(run_id, 3)

    hold()


def exporting_by_itself() -> None:
    @task.earth_engine(task_id="hold", deferrable=True, poll_interval=1)
    def hold(run_id: str) -> None:
        starting_itself(run_id, 5)

    hold()


def watching() -> None:
    """Add a sensor that has to cancel an export that another task has started."""
    start = EarthEngineExportOperator(task_id="start", kind="image", body=BODY, wait_for_completion=False)
    hold = EarthEngineOperationsSensor(
        task_id="hold",
        operation_names="{{ ti.xcom_pull('start') }}",
        deferrable=True,
        cancel_on_kill=True,
        poll_interval=1,
    )
    start >> hold


SHAPES = {
    "deferred": lambda: exporting(deferrable=True),
    "worker": lambda: exporting(deferrable=False),
    "by_itself": exporting_by_itself,
    "sensor": watching,
}

for shape, make in SHAPES.items():
    with DAG(f"moment_{shape}", schedule=None, catchup=False) as made:
        make()
    globals()[made.dag_id] = made
    for seconds in (4, 5, 6, 7, 8, 9):
        how: dict[str, Any] = {"dagrun_timeout": timedelta(seconds=seconds)}
        with DAG(f"moment_{shape}_timeout_{seconds}", schedule=None, catchup=False, **how) as made:
            make()
        globals()[made.dag_id] = made
