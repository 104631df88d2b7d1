"""Five ways to cancel an Earth Engine export when its DAG run no longer needs it.

The DAGs run as they are: against Earth Engine with your own ``bucket``, or against the emulator (``make demo``).
Trigger one with ``{"simulate_failure": true}`` to see how its export is cancelled.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

ARGUMENTS: dict[str, Any] = {
    "catchup": False,
    "tags": ["example", "earth-engine"],
    "params": {"bucket": Param("my-bucket", type="string"), "simulate_failure": Param(False, type="boolean")},
}


def make_export(dag: Any, params: dict[str, Any]) -> Any:
    """Return an export; the task starts it."""
    import ee

    return ee.batch.Export.image.toCloudStorage(
        ee.Image(1), description=dag.dag_id, bucket=params["bucket"], fileNamePrefix=f"{dag.dag_id}/image", scale=1000
    )


# Starts the export, records its name, and does not wait for it.
start_export = task.earth_engine(task_id="start_export", wait_for_completion=False)(make_export)


@task
def check_inputs(**context: Any) -> None:
    """Fail if the run's parameters say so."""
    if context["params"]["simulate_failure"]:
        raise ValueError("The inputs are invalid: the export is not needed.")


# When the run fails, the DAG's callback cancels the operations that the run's tasks have recorded.
with DAG(
    "example_earth_engine_cancel_on_failure",
    schedule=None,
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    operation = start_export()
    wait = EarthEngineOperationsSensor(task_id="wait", operation_names=operation, deferrable=True)
    operation >> check_inputs() >> wait


# One task starts the export and waits for it in the triggerer. When the DAG run times out, the task's trigger cancels
# the export. The callback cancels as well, in case no trigger runs. (A minute here stands for hours in your DAG.)
with DAG(
    "example_earth_engine_cancel_on_dagrun_timeout",
    schedule=None,
    dagrun_timeout=timedelta(minutes=1),
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    task.earth_engine(task_id="export", deferrable=True)(make_export)()


# When a user clears or marks the sensor, or when its timeout passes, the sensor cancels the export. The callback
# cancels it if a task fails before the sensor starts.
with DAG(
    "example_earth_engine_cancel_on_kill",
    schedule=None,
    on_failure_callback=EarthEngineCancelOperationsNotifier(scope="run"),
    **ARGUMENTS,
):
    EarthEngineOperationsSensor(
        task_id="wait",
        operation_names=start_export(),
        deferrable=True,
        cancel_on_kill=True,
        cancel_on_timeout=True,
        timeout=timedelta(hours=12).total_seconds(),
    )


# As soon as one task fails, the operator cancels the export. The run continues when Earth Engine has confirmed it.
with DAG("example_earth_engine_cancel_operator", schedule=None, **ARGUMENTS):
    operation = start_export()
    wait = EarthEngineOperationsSensor(task_id="wait", operation_names=operation, deferrable=True)
    cancel = EarthEngineCancelOperationsOperator(
        task_id="cancel", operation_names=operation, trigger_rule="one_failed", deferrable=True
    )
    operation >> check_inputs() >> cancel


# A teardown without names cancels the operations that the tasks upstream of it have recorded. Airflow runs a teardown
# when a user marks the run failed, and calls no callback then. Airflow does not run it at `dagrun_timeout`.
with DAG("example_earth_engine_cancel_teardown", schedule=None, **ARGUMENTS):
    wait = EarthEngineOperationsSensor(
        task_id="wait", operation_names=start_export(), mode="reschedule", poll_interval=15
    )
    wait >> EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()
