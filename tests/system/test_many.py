"""Hundreds of exports from one task: each starts once although the process dies, and none outlives the task."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

COUNT = 500

#: The number of tasks that are killed while they start their exports.
KILLED = 4

#: Seconds that the start of 500 exports takes at the API's rate.
STARTING = 6.0


@pytest.fixture(scope="module")
def emulator(collected_emulator: Emulator) -> Emulator:
    return collected_emulator


@pytest.fixture(scope="module")
def airflow(collected_airflow: StandaloneAirflow) -> StandaloneAirflow:
    """With the collector, which cancels the exports of a process that is killed before a busy Airflow responds."""
    return collected_airflow


def started(emulator: Emulator, run_id: str) -> list[str]:
    """Return the operations of a run's tasks."""
    operations = list(emulator.service.operations.values())
    return [operation.name for operation in operations if operation.description.startswith(f"many-{run_id}-")]


def running(emulator: Emulator, run_id: str) -> list[str]:
    """Return the operations of a run's tasks that have not ended."""
    states = {name: emulator.service.state(name) for name in started(emulator, run_id)}
    return [name for name, state in states.items() if state in ("PENDING", "RUNNING", "CANCELLING")]


@pytest.mark.parametrize("dag_id", ["many_in_worker", "many_batched"])
def test_each_export_starts_once_although_the_task_is_killed_while_it_starts_them(
    airflow: StandaloneAirflow, emulator: Emulator, dag_id: str
) -> None:
    emulator.service.behave("many*", pending_seconds=0, run_seconds=20, cancel_seconds=1)
    airflow.wait_for_dags(dag_id)
    moments = [random.uniform(0.0, STARTING) for _ in range(KILLED)]
    runs = [airflow.trigger(dag_id, die_after=seconds) for seconds in moments]
    for run_id, seconds in zip(runs, moments, strict=True):
        wait_until(
            lambda run_id=run_id: airflow.run(dag_id, run_id)["state"] in ("success", "failed"),  # type: ignore[misc]
            what=f"{run_id} to end",
        )
        tries = airflow.task(dag_id, run_id, "tiles")["try_number"]
        print(f"killed after {seconds:.1f} s: {len(started(emulator, run_id))} exports, {tries} tries")

    assert [airflow.run(dag_id, run_id)["state"] for run_id in runs] == ["success"] * KILLED
    assert [len(started(emulator, run_id)) for run_id in runs] == [COUNT] * KILLED


@pytest.mark.parametrize(
    ("dag_id", "task_id", "count"),
    [
        ("many_in_worker", "tiles", COUNT),
        ("many_batched", "tiles", COUNT),
        ("many_in_triggerer", "tiles", COUNT),
        ("many_mapped", "tile", 30),
    ],
)
def test_no_export_is_left_when_the_run_is_marked_failed_while_they_start(
    airflow: StandaloneAirflow, emulator: Emulator, dag_id: str, task_id: str, count: int
) -> None:
    emulator.service.behave("many*", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    airflow.wait_for_dags(dag_id)
    run_id = airflow.trigger(dag_id, count=count)
    wait_until(lambda: len(started(emulator, run_id)) >= count // 3, what="a third to be started")

    airflow.mark_run(dag_id, run_id, "failed")
    wait_until(lambda: not running(emulator, run_id), what=f"the exports of {task_id} to end")

    print(f"{dag_id}: {len(started(emulator, run_id))} of {count} were started")
    assert not running(emulator, run_id)


def test_dag_notifier_cancels_more_exports_than_its_time_limit_allows(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    emulator.service.behave("many*", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    airflow.wait_for_dags("many_forgotten")
    run_id = airflow.trigger("many_forgotten")
    wait_until(lambda: airflow.run("many_forgotten", run_id)["state"] == "failed", what="the run to fail")

    wait_until(lambda: not running(emulator, run_id), what="what the run holds to end")

    assert len(started(emulator, run_id)) == 400
