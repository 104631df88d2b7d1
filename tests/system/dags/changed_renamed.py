"""A DAG whose first task is renamed in this file while a run is under way."""

from __future__ import annotations

import time

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationOperator, EarthEngineExportOperator

BODY = {
    "description": "changed_renamed",
    "expression": {"result": "0"},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}

with DAG("changed_renamed", schedule=None, catchup=False):
    start = EarthEngineExportOperator(task_id="export", kind="image", body=BODY, wait_for_completion=False)

    @task
    def work() -> None:
        time.sleep(30)

    clean_up = EarthEngineCancelOperationOperator(task_id="clean_up", poll_interval=1).as_teardown()
    start >> work() >> clean_up
