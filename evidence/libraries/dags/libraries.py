"""A task that calls the helper that its run names, and continues to work."""

from __future__ import annotations

import time
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

with DAG("library", schedule=None, catchup=False):

    @task.earth_engine(task_id="hold", poll_interval=1)
    def hold(dag_run: Any) -> None:
        from helpers import helpers
        from less_known import less_known

        _, export = (helpers() | less_known())[dag_run.conf["helper"]]
        export()
        time.sleep(600)

    hold()
