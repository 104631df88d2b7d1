"""A task that holds the operations of its run's conf."""

from __future__ import annotations

import time
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_ee_provider.records import record_operations

with DAG("hold", schedule=None):

    @task
    def hold(**context: Any) -> None:
        """Record the names in the run's conf, and keep running."""
        for name in range(0, len(names := context["dag_run"].conf["names"]), 100):
            record_operations(context, names[name : name + 100])
        time.sleep(3600)

    hold()
