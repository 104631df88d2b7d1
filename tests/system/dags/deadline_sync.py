"""A deadline's callback that an executor runs: Airflow tells it nothing about the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.records import record_operations

#: Airflow before 3.2 has no such callbacks.
HAS_SYNC_CALLBACKS = tuple(map(int, airflow_version.split(".")[:2])) >= (3, 2)
if HAS_SYNC_CALLBACKS:
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference, SyncCallback

CASES: dict[str, dict[str, Any]] = {
    "deadline_sync_named": {"operation_names": "{{ dag_run['conf']['operation_names'] }}"},
    "deadline_sync_recorded": {},
}

for dag_id, arguments in CASES.items() if HAS_SYNC_CALLBACKS else ():
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=5),
        callback=SyncCallback(EarthEngineCancelOperationsNotifier, kwargs=arguments),
    )
    with DAG(dag_id, schedule=None, catchup=False, deadline=alert) as made:

        @task(task_id="hold")
        def hold(**context: Any) -> None:
            import time

            record_operations(context, *context["dag_run"].conf["operation_names"])
            time.sleep(60)

        hold()
    globals()[made.dag_id] = made
