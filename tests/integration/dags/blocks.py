"""DAGs with one Airflow task each, which uses ``ee`` in an ``earth_engine()`` block."""

from __future__ import annotations

import logging
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, BaseOperator, task

from airflow_ee_provider.client import earth_engine
from airflow_ee_provider.earth_engine.protocol import waiting

waiting.SHORTEST_POLL_INTERVAL = 0.0  # For tests, also in separate processes.

try:
    from airflow.providers.standard.operators.python import PythonOperator
except ImportError:  # Airflow 2 without that provider.
    from airflow.operators.python import PythonOperator  # type: ignore[no-redef,import-not-found,unused-ignore]


def export(description: str) -> Any:
    import ee

    ee.Initialize(project="earth-demo")
    started = ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", scale=1000)
    started.start()
    return started.id


def waited(description: str) -> Any:
    with earth_engine(wait_for_completion=True, poll_interval=0.2) as started:
        identity = export(description)
    return [identity, [operation["state"] for operation in started.operations]]


class Exports(BaseOperator):
    """A custom operator."""

    def execute(self, context: Any) -> Any:
        with earth_engine(context) as started:
            export("operator")
        return started.operation_names


def breaks() -> None:
    with earth_engine():
        export("breaks")
        raise ValueError("The second one is no good.")


def breaks_and_is_caught() -> None:
    try:
        with earth_engine(wait_for_completion=True, poll_interval=0.2):
            export("bad")
            export("good")
    except AirflowException as error:
        logging.getLogger("airflow.task").info("Caught: %s", error)


with DAG("block_in_task", schedule=None) as dag_of_task:
    task(task_id="task")(waited)("task")

with DAG("block_in_python_operator", schedule=None) as dag_of_python:
    PythonOperator(task_id="task", python_callable=waited, op_kwargs={"description": "python"})

with DAG("block_in_operator", schedule=None) as dag_of_operator:
    Exports(task_id="task")

with DAG("block_that_breaks_and_is_caught", schedule=None) as dag_of_caught:
    task(task_id="task")(breaks_and_is_caught)()

with DAG("block_that_breaks", schedule=None) as dag_that_breaks:
    task(task_id="task")(breaks)()
