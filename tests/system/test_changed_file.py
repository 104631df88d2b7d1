"""A DAG's file changes while its run is under way: what the run has started is still known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.standalone import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

RENAMED = """
import time
from airflow.providers.common.compat.sdk import DAG, task
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationOperator, EarthEngineExportOperator

BODY = {{
    "description": "changed_renamed",
    "expression": {{"result": "0"}},
    "fileExportOptions": {{"cloudStorageDestination": {{"bucket": "b"}}}},
}}

with DAG("changed_renamed", schedule=None, catchup=False) as dag:
    start = EarthEngineExportOperator(task_id="{name}", kind="image", body=BODY, wait_for_completion=False)

    @task
    def work():
        time.sleep(30)

    start >> work() >> EarthEngineCancelOperationOperator(task_id="clean_up", poll_interval=1).as_teardown()
"""

RETRIES = """
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG, AirflowException, task

with DAG("changed_retries", schedule=None, catchup=False) as dag:

    @task.earth_engine(retries={retries}, retry_delay=timedelta(seconds=20), poll_interval=1)
    def export(ti):
        import ee

        ee.batch.Export.image.toCloudStorage(ee.Image(1), "changed_retries", bucket="b", scale=1000).start()
        if ti.try_number == 1:
            raise AirflowException("Try again.")

    export()
"""


def write(airflow: StandaloneAirflow, name: str, text: str) -> None:
    folder = Path(airflow.environment["AIRFLOW__CORE__DAGS_FOLDER"])
    (folder / f"{name}.py").write_text(text, encoding="utf-8")


def test_what_a_task_has_started_that_was_renamed_is_cancelled_by_the_teardown(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    write(airflow, "changed_renamed", RENAMED.format(name="export"))
    airflow.wait_for_dags("changed_renamed")
    run_id = airflow.trigger("changed_renamed")
    airflow.wait_for_task("changed_renamed", run_id, "work", "running")
    write(airflow, "changed_renamed", RENAMED.format(name="renamed"))

    wait_until(
        lambda: airflow.run("changed_renamed", run_id)["state"] in ("success", "failed"), timeout=240, what="the end"
    )

    [first, *_] = [o for o in emulator.service.operations.values() if o.description == "changed_renamed"]
    assert emulator.service.state(first.name) == "CANCELLED"


@pytest.mark.parametrize("lowered", [1])
def test_a_retry_is_a_retry_although_retries_were_lowered_meanwhile(
    airflow: StandaloneAirflow, emulator: Emulator, lowered: int
) -> None:
    emulator.service.behave("changed_retries", run_seconds=90)
    write(airflow, "changed_retries", RETRIES.format(retries=3))
    airflow.wait_for_dags("changed_retries")
    run_id = airflow.trigger("changed_retries")
    airflow.wait_for_task("changed_retries", run_id, "export", "up_for_retry")
    write(airflow, "changed_retries", RETRIES.format(retries=lowered))
    time.sleep(5)

    wait_until(
        lambda: airflow.run("changed_retries", run_id)["state"] in ("success", "failed"), timeout=240, what="the end"
    )

    operations = [o for o in emulator.service.operations.values() if o.description == "changed_retries"]
    assert airflow.run("changed_retries", run_id)["state"] == "success"
    assert len(operations) == 1
    assert operations[0].cancel_requested is None
