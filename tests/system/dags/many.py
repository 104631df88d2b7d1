"""Hundreds of exports from one task, which may be killed once while it starts them; and one from each of many tasks."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, get_current_context, task

from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.records import record_operations

COUNT = 500


def tiles(dag_run: Any, ti: Any) -> list[Any]:
    """Return exports of a row of tiles; in the first try, die after the run's ``die_after`` seconds, if it has any."""
    import ee

    if (seconds := (dag_run.conf or {}).get("die_after")) is not None and ti.try_number == 1:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    image = ee.Image("CGIAR/SRTM90_V4")
    return [
        ee.batch.Export.image.toCloudStorage(
            image,
            f"many-{dag_run.run_id}-{number}",
            "bucket",
            region=ee.Geometry.Rectangle([number / 10, 0, number, 1]),
        )
        for number in range((dag_run.conf or {}).get("count", COUNT))
    ]


def tile(number: int, dag_run: Any) -> Any:
    """Return the export of one tile."""
    import ee

    return ee.batch.Export.image.toCloudStorage(ee.Image(1), f"many-{dag_run.run_id}-{number}", "bucket", scale=1000)


for place in ("worker", "triggerer"):
    how: dict[str, Any] = {
        "poll_interval": 1,
        "retries": 5,
        "retry_delay": timedelta(0),
        "deferrable": place == "triggerer",
        "max_active_operations": "{{ dag_run.conf.get('at_once') }}",
    }
    with DAG(f"many_in_{place}", schedule=None, catchup=False) as made:
        task.earth_engine(task_id="tiles", **how)(tiles)()
    globals()[made.dag_id] = made


def start_tiles(dag_run: Any, ti: Any) -> None:
    """Start the exports of a row of tiles in a loop."""
    for export in tiles(dag_run, ti):
        export.start()


with DAG("many_batched", schedule=None, catchup=False) as batched:
    task.earth_engine(
        task_id="tiles", batch_starts=True, poll_interval=1, retries=5, retry_delay=timedelta(0), deferrable=True
    )(start_tiles)()

with DAG("many_mapped", schedule=None, catchup=False, params={"count": 30}) as mapped:

    @task
    def numbers(dag_run: Any) -> list[int]:
        return list(range((dag_run.conf or {}).get("count", 30)))

    task.earth_engine(task_id="tile", poll_interval=5, deferrable=True)(tile).expand(number=numbers())

with DAG(
    "many_forgotten", schedule=None, catchup=False, on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run")
):

    @task
    def holders(dag_run: Any) -> list[int]:
        return list(range((dag_run.conf or {}).get("tasks", 4)))

    @task
    def hold(number: int, dag_run: Any) -> None:
        """Start a hundred exports, record them, and end."""
        context, hook = get_current_context(), EarthEngineHook()
        bodies = [
            {
                "description": f"many-{dag_run.run_id}-{number}-{tile}",
                "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
                "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
            }
            for tile in range((dag_run.conf or {}).get("each", 100))
        ]
        record_operations(context, [hook.start_export("image", body).name for body in bodies])

    @task
    def fail() -> None:
        raise ValueError("Nothing of this is wanted any more.")

    hold.expand(number=holders()) >> fail()
