"""DAGs of several shapes for the soak; the task that holds the exports is called ``hold``."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task
from policies import NO_TRY_AFTER_VALUE_ERROR

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator, EarthEngineExportOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable

#: Cleaning up with the collector, the notifier and a teardown; or, ``_bare``, with the collector alone.
WAYS = ("", "_bare")
CLEANUP = EarthEngineCancelOperationsNotifier()
#: The factor of all time limits: greater than 1 if a database is unavailable for a minute.
PATIENCE = float(os.environ.get("SOAK_PATIENCE", "1"))
ARGUMENTS: dict[str, Any] = {
    "catchup": False,
    "dagrun_timeout": PATIENCE * timedelta(minutes=3),
}
CALLBACKS: dict[str, Any] = {"on_failure_callback": CLEANUP, "on_success_callback": CLEANUP}
#: While the broker is unavailable, for a minute, each attempt to send it a task costs a try.
RETRIES: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=1 if PATIENCE == 1 else 15)}
#: ``short`` or ``long``, the run's id, and the number of the export.
DESCRIPTION = "{{ dag_run.conf['lives'] }}-{{ run_id }}-0"


def exports(count: int) -> Callable[..., Any]:
    """Make a function that returns ``count`` exports."""

    def make(dag_run: Any, ti: Any, part: int = 0) -> Any:
        import ee

        return [
            ee.batch.Export.image.toCloudStorage(
                ee.Image(1), f"{dag_run.conf['lives']}-{ti.run_id}-{part}{number}", bucket="b", scale=1000
            )
            for number in range(count)
        ]

    return make


def neighbour() -> None:
    """Add a task with an export that must not be cancelled while the run continues."""

    @task.earth_engine(task_id="neighbour", deferrable=True, poll_interval=5, **RETRIES)
    def export(run_id: str) -> Any:
        import ee

        return ee.batch.Export.image.toCloudStorage(ee.Image(1), f"short-{run_id}-neighbour", bucket="b", scale=1000)

    export()


def start_and_raise(dag_run: Any, ti: Any) -> Any:
    """Start an export; if the run's event is ``retry_policy``, raise an error after which no try follows."""
    [export] = exports(1)(dag_run, ti)
    export.start()
    if dag_run.conf["happens"] == "retry_policy":
        raise ValueError("An error after which the policy lets no try follow.")
    return export


def failing() -> None:
    """Add a task that fails after a while, if the run's event is ``fail_fast``: Airflow then ends the other tasks."""

    @task(task_id="fails", **RETRIES)
    def fail(dag_run: Any) -> None:
        if dag_run.conf["happens"] == "fail_fast":
            time.sleep(dag_run.conf["after"])
            raise AirflowFailException("This ends the other tasks.")

    fail()


def clean_up(way: str) -> list[Any]:
    """Cancel a run's remaining operations at its end, also if Airflow calls no callback."""
    return [EarthEngineCancelOperationsOperator(task_id="clean_up", **RETRIES).as_teardown()] if not way else []


def dag_of(shape: str, way: str, **more: Any) -> DAG:
    """Return a DAG whose tasks are still to be added."""
    return DAG(f"soak_{shape}{way}", schedule=None, **ARGUMENTS, **({} if way else CALLBACKS), **more)


for way in WAYS:
    with dag_of("several", way):
        neighbour()
        task.earth_engine(task_id="hold", deferrable=True, poll_interval=5, **RETRIES)(exports(2))() >> clean_up(way)

    with dag_of("mapped", way):
        neighbour()
        hold = task.earth_engine(task_id="hold", deferrable=True, poll_interval=5, **RETRIES)(exports(1))
        hold.expand(part=[1, 2, 3]) >> clean_up(way)

    with dag_of("sensor", way):
        neighbour()
        (
            EarthEngineOperationsSensor(
                task_id="hold",
                operation_names=task.earth_engine(task_id="start", wait_for_completion=False, **RETRIES)(exports(1))(),
                deferrable=True,
                cancel_on_kill=True,
                cancel_on_timeout=True,
                poll_interval=5,
                **RETRIES,
            )
            >> clean_up(way)
        )

    with dag_of("worker", way):
        neighbour()
        (
            EarthEngineExportOperator(
                task_id="hold",
                kind="image",
                body={
                    "description": DESCRIPTION,
                    "expression": {"result": "0", "values": {"0": {"constantValue": 1}}},
                    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
                },
                poll_interval=5,
                **RETRIES,
            )
            >> clean_up(way)
        )

    with dag_of("timeout", way):
        neighbour()
        (
            task.earth_engine(
                task_id="hold",
                deferrable=True,
                poll_interval=5,
                execution_timeout=PATIENCE * timedelta(seconds=100),
                **RETRIES,
            )(exports(1))()
            >> clean_up(way)
        )

    with dag_of("policy", way):
        neighbour()
        start = task.earth_engine(
            task_id="hold", deferrable=True, poll_interval=5, **RETRIES, **NO_TRY_AFTER_VALUE_ERROR
        )(start_and_raise)
        start() >> clean_up(way)

    with dag_of("fail_fast", way, **{"fail_fast" if AIRFLOW_3 else "fail_stop": True}):
        neighbour()
        failing()
        task.earth_engine(task_id="hold", deferrable=True, poll_interval=5, **RETRIES)(exports(2))() >> clean_up(way)
