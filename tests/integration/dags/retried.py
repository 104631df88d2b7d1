"""DAGs whose task starts an operation in its first try, and then fails."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.client import earth_engine
from airflow_ee_provider.records import record_operations, resume_operations
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record, run_started
from airflow_ee_provider.tracking.retry_memory import Variables

#: The ``run_dag`` fixture reads the task "task".
ARGUMENTS: dict[str, Any] = {"task_id": "task", "retries": 1, "retry_delay": timedelta(0)}


def export(description: str) -> Any:
    import ee

    return ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", fileNamePrefix=description)


def skips(ti: Any) -> None:
    """Start the exports that are not in the task list yet."""
    import ee

    listed = {operation["metadata"]["description"] for operation in ee.data.listOperations()}
    for description in ("a", "b"):
        if description not in listed:
            export(description).start()
        if ti.try_number == 1:
            raise ValueError(description)


def skips_all(ti: Any) -> None:
    """Start the export if the task list is empty; the first try then fails."""
    import ee

    if not ee.data.listOperations():
        export("a").start()
    if ti.try_number == 1:
        raise ValueError


def loses_the_connection() -> None:
    """Start an export and fail; the next try finds no connection, so that it cannot read what the last one started."""
    export("a").start()
    del os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"]
    raise ValueError


for function in (skips, skips_all, loses_the_connection):
    with DAG(f"retried_{function.__name__}", schedule=None):
        task.earth_engine(poll_interval=1, **ARGUMENTS)(function)()


with DAG("retried_recorded", schedule=None):

    @task(**ARGUMENTS)
    def recorded() -> list[str]:
        from airflow.providers.common.compat.sdk import get_current_context

        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        context = get_current_context()
        if left := resume_operations(context, EarthEngineHook()):
            return left
        record_operations(context, context["dag_run"].conf["operation_names"])
        raise ValueError

    recorded()


with DAG("recorded_after_a_block", schedule=None):

    @task(task_id="task")
    def records_others() -> None:
        from airflow.providers.common.compat.sdk import get_current_context

        context = get_current_context()
        with earth_engine(wait_for_completion=True, poll_interval=1):
            export("a").start()
        record_operations(context, context["dag_run"].conf["operation_names"])
        raise ValueError

    records_others()


def upgraded(*, cleared: bool) -> None:
    """Add a task whose first try ran on an older Airflow, and which is cleared or retried after an upgrade."""

    @task(**ARGUMENTS)
    def meets_the_last_try() -> list[str]:
        from airflow.providers.common.compat.sdk import get_current_context

        from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

        context = get_current_context()
        ti: Any = context["ti"]
        if ti.try_number == 1:
            names = tuple(context["dag_run"].conf["operation_names"])
            before = ti.max_tries - 1 if cleared else ti.max_tries
            record = Record(names, None, ti.task_id, -1, 1, before, run_started(context))
            Variables(ti).set(OPERATIONS_KEY, record.as_json())
            raise ValueError
        return resume_operations(context, EarthEngineHook())

    meets_the_last_try()


for cleared in (True, False):
    with DAG(f"retried_after_an_upgrade{'_and_cleared' if cleared else ''}", schedule=None):
        upgraded(cleared=cleared)
