"""A DAG's file changes while its run is under way: what the run has started is still known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.standalone import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def change(airflow: StandaloneAirflow, name: str, old: str, new: str) -> None:
    file = Path(airflow.environment["AIRFLOW__CORE__DAGS_FOLDER"]) / f"{name}.py"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def end(airflow: StandaloneAirflow, dag_id: str, run_id: str) -> str:
    """Wait for a run's end, and return its state."""

    def state() -> str:
        now: str = airflow.run(dag_id, run_id)["state"]
        return now if now in ("success", "failed") else ""

    return wait_until(state, timeout=240, what=f"the end of {dag_id}")


def test_what_a_task_has_started_that_was_renamed_is_cancelled_by_the_teardown(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    airflow.wait_for_dags("changed_renamed")
    run_id = airflow.trigger("changed_renamed")
    airflow.wait_for_task("changed_renamed", run_id, "work", "running")
    change(airflow, "changed_renamed", 'task_id="export"', 'task_id="renamed"')

    end(airflow, "changed_renamed", run_id)

    [first, *_] = [o for o in emulator.service.operations.values() if o.description == "changed_renamed"]
    assert emulator.service.state(first.name) == "CANCELLED"


def test_a_retry_is_a_retry_although_retries_were_lowered_meanwhile(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    emulator.service.behave("changed_retries", run_seconds=90)
    airflow.wait_for_dags("changed_retries")
    run_id = airflow.trigger("changed_retries")
    airflow.wait_for_task("changed_retries", run_id, "export", "up_for_retry")
    change(airflow, "changed_retries", "retries=3", "retries=1")

    state = end(airflow, "changed_retries", run_id)

    operations = [o for o in emulator.service.operations.values() if o.description == "changed_retries"]
    assert state == "success"
    assert len(operations) == 1
    assert operations[0].cancel_requested is None
