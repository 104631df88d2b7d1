"""A DAG whose connection is kept in a secret manager."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

with DAG("kept_in_a_secret_manager", schedule=None, catchup=False):

    @task.earth_engine(
        task_id="hold",
        earth_engine_conn_id="kept_in_a_secret_manager",
        retries=1,
        retry_delay=timedelta(seconds=5),
        poll_interval=1,
    )
    def hold() -> Any:
        import ee

        return ee.batch.Export.image.toCloudStorage(ee.Image(1), "secret", bucket="b", scale=1000)

    hold()
