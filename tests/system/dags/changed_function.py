"""A DAG whose function is changed in this file before its next try, to make a different export."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowException, task

with DAG("changed_function", schedule=None, catchup=False):

    @task.earth_engine(retries=3, retry_delay=timedelta(seconds=20), poll_interval=1)
    def export(ti: Any) -> None:
        import ee

        image = ee.Image(1)
        ee.batch.Export.image.toCloudStorage(image, "changed_function", bucket="b", scale=1000).start()
        if ti.try_number == 1:
            raise AirflowException("Try again.")

    export()
