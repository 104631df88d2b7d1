"""A DAG whose first task is renamed in this file while a run is active."""

from __future__ import annotations

import time

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator, EarthEngineExportOperator

BODY = {
    "description": "changed_renamed",
    "expression": {"result": "0"},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}

# Airflow 2.11 ends such a run without its teardown, and calls the notifier; Airflow 3 runs the teardown.
NOTIFIER = EarthEngineCancelOperationsNotifier()

with DAG("changed_renamed", schedule=None, catchup=False, on_failure_callback=NOTIFIER):
    start = EarthEngineExportOperator(task_id="export", kind="image", body=BODY, wait_for_completion=False)

    @task
    def work() -> None:
        time.sleep(30)

    clean_up = EarthEngineCancelOperationsOperator(task_id="clean_up", poll_interval=1).as_teardown()
    start >> work() >> clean_up
