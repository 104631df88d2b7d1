"""Hundreds of exports from one task: each is started once, whatever dies, and none is left, whoever ends the task."""

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

#: Tasks that are killed amid the start of theirs.
KILLED = 4

#: Seconds in which 500 are started at the API's pace.
STARTING = 6.0


@pytest.fixture(scope="module")
def emulator(collected_emulator: Emulator) -> Emulator:
    return collected_emulator


@pytest.fixture(scope="module")
def airflow(collected_airflow: StandaloneAirflow) -> StandaloneAirflow:
    """With the collector: a process that gets no answer from a busy Airflow before it is killed leaves them to it."""
    return collected_airflow


def started(emulator: Emulator, run_id: str) -> list[str]:
    """Return the operations of a run's tasks."""
    operations = list(emulator.service.operations.values())
    return [operation.name for operation in operations if operation.description.startswith(f"many-{run_id}-")]


def running(emulator: Emulator, run_id: str) -> list[str]:
    """Return those of them that have not ended."""
    states = {name: emulator.service.state(name) for name in started(emulator, run_id)}
    return [name for name, state in states.items() if state in ("PENDING", "RUNNING", "CANCELLING")]


@pytest.mark.parametrize("dag_id", ["many_in_worker", "many_batched"])
def test_each_is_started_once_although_the_task_is_killed_amid_their_start(
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
def test_none_is_left_when_the_run_is_marked_failed_amid_their_start(
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


def test_a_dags_notifier_cancels_more_than_there_is_time_for(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    emulator.service.behave("many*", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    airflow.wait_for_dags("many_forgotten")
    run_id = airflow.trigger("many_forgotten")
    wait_until(lambda: airflow.run("many_forgotten", run_id)["state"] == "failed", what="the run to fail")

    wait_until(lambda: not running(emulator, run_id), what="what the run holds to end")

    assert len(started(emulator, run_id)) == 400
