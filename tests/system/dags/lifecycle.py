"""One DAG for each holder of an operation and each way in which its task or its run can end."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationSensor

HOLDERS = {"running": {"deferrable": False}, "deferred": {"deferrable": True}}

#: What ends each cell's task: what the sensor is told, and what the DAG is told.
CELLS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "cleared": ({"cancel_on_kill": True}, {}),
    "marked_failed": ({"cancel_on_kill": True}, {}),
    "run_marked_failed": ({"cancel_on_kill": True}, {}),
    "dagrun_timeout": ({"cancel_on_kill": True}, {"dagrun_timeout": timedelta(seconds=20)}),
    "execution_timeout": ({"cancel_on_timeout": True, "execution_timeout": timedelta(seconds=10)}, {}),
    "sensor_timeout": ({"cancel_on_timeout": True, "timeout": 10}, {}),
    "task_callback": ({"on_failure_callback": EarthEngineCancelOperationsNotifier()}, {}),
    "dag_callback": ({}, {"on_failure_callback": EarthEngineCancelOperationsNotifier()}),
    "left_alone": ({}, {}),
}

for holder, how in HOLDERS.items():
    for cell, (sensor, dag) in CELLS.items():
        with DAG(f"{holder}_{cell}", schedule=None, catchup=False, **dag) as made:
            EarthEngineOperationSensor(
                task_id="hold",
                operation_names="{{ dag_run.conf['operation_names'] }}",
                poll_interval=1,
                **how,
                **sensor,
            )
        globals()[made.dag_id] = made
