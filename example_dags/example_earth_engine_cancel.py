"""Five ways to never leave an Earth Engine export running that nobody waits for any more.

They run as they are: against Earth Engine with your own ``bucket``, or against the emulator (``make demo``). Trigger
one with ``{"simulate_failure": true}`` to see what happens to its export.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationSensor

ARGUMENTS: dict[str, Any] = {
    "catchup": False,
    "tags": ["example", "earth-engine"],
    "params": {"bucket": Param("my-bucket", type="string"), "simulate_failure": Param(False, type="boolean")},
}


def make_export(dag: Any, params: dict[str, Any]) -> Any:
    """Describe an export, as Earth Engine's users do; the task starts it, exactly once."""
    import ee

    return ee.batch.Export.image.toCloudStorage(
        ee.Image(1), description=dag.dag_id, bucket=params["bucket"], fileNamePrefix=f"{dag.dag_id}/image", scale=1000
    )


#: It starts the export, writes its name down, and leaves the waiting to the next task.
start_export = task.earth_engine(task_id="start_export", wait_for_completion=False)(make_export)


@task
def check_inputs(**context: Any) -> None:
    """Fail where the run was asked to, as your own tasks do without being asked."""
    if context["params"]["simulate_failure"]:
        raise ValueError("The inputs are no good: the export is not wanted any more.")


# A callback of the DAG finds what the run's tasks have recorded, and cancels it when the run fails.
with DAG(
    "example_earth_engine_cancel_on_failure",
    schedule=None,
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    operation = start_export()
    wait = EarthEngineOperationSensor(task_id="wait", operation_names=operation, deferrable=True)
    operation >> check_inputs() >> wait


# One task that starts the export and waits for it, without a worker slot. The DAG run times out: the task's trigger
# cancels. The callback does so, too, in whatever state the run's tasks are by then. (This example's minute stands for
# your hours.)
with DAG(
    "example_earth_engine_cancel_on_dagrun_timeout",
    schedule=None,
    dagrun_timeout=timedelta(minutes=1),
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    task.earth_engine(task_id="export", deferrable=True)(make_export)()


# The user clears or marks the waiting task, or its own timeout passes: the sensor cancels. The callback cancels for the
# tasks that fail before the sensor has begun.
with DAG(
    "example_earth_engine_cancel_on_kill",
    schedule=None,
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    EarthEngineOperationSensor(
        task_id="wait",
        operation_names=start_export(),
        deferrable=True,
        cancel_on_kill=True,
        cancel_on_timeout=True,
        timeout=timedelta(hours=12).total_seconds(),
    )


# An operator at the end, with a trigger rule: as soon as one task fails, the export is cancelled, and the run continues
# only when Earth Engine has confirmed that.
with DAG("example_earth_engine_cancel_operator", schedule=None, **ARGUMENTS):
    operation = start_export()
    wait = EarthEngineOperationSensor(task_id="wait", operation_names=operation, deferrable=True)
    cancel = EarthEngineCancelOperationOperator(
        task_id="cancel", operation_names=operation, trigger_rule="one_failed", deferrable=True
    )
    operation >> check_inputs() >> cancel

# A teardown at the end, without names: it cancels what the tasks upstream of it have recorded. Airflow runs it even
# where it calls no callback and tells no task, as when the run is marked failed while this sensor sleeps; but not at
# `dagrun_timeout`.
with DAG("example_earth_engine_cancel_teardown", schedule=None, **ARGUMENTS):
    wait = EarthEngineOperationSensor(
        task_id="wait", operation_names=start_export(), mode="reschedule", poll_interval=15
    )
    wait >> EarthEngineCancelOperationOperator(task_id="clean_up").as_teardown()
