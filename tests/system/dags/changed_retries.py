"""A DAG whose task's retries are lowered in this file before its next try."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task

with DAG("changed_retries", schedule=None, catchup=False):

    @task.earth_engine(retries=3, retry_delay=timedelta(seconds=20), poll_interval=1)
    def export(ti: Any) -> None:
        import ee

        ee.batch.Export.image.toCloudStorage(ee.Image(1), "changed_retries", bucket="b", scale=1000).start()
        if ti.try_number == 1:
            raise AirflowException("Try again.")

    export()
