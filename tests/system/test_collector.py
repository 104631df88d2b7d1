"""The collector, on a real Airflow: tasks end between two tries, and nothing in the DAG cancels their operations."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from matrix_cells import PROJECT

from airflow_ee_provider.tracking.record import OPERATIONS_KEY
from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

ENDS = (
    "task_marked_failed",
    "task_cleared_while_paused",
    "run_marked_failed",
    "dagrun_timeout",
    "fail_fast",
    "nothing",
    "success",
)

#: Seconds from the end of a task or a run to the cancel's request, on an idle system.
WITHIN = 90.0


class Held:
    """A run whose task waits for its second try, and holds an operation."""

    def __init__(self, airflow: StandaloneAirflow, emulator: Emulator, end: str) -> None:
        self.airflow, self.service, self.end, self.dag_id = airflow, emulator.service, end, f"collected_{end}"
        self.name = self.service.add(self.dag_id, PROJECT, run_seconds=3600)
        failing = self.service.add(f"{self.dag_id}-fails", PROJECT, run_seconds=3600, message="Internal error.")
        self.until = self.service.add(f"{self.dag_id}-until", PROJECT, run_seconds=3600)
        self.run_id = airflow.trigger(self.dag_id, operation_names=[self.name, failing], until=self.until)
        self._failing = failing

    def wait_until_held(self) -> None:
        """Wait until the task has recorded its operations."""

        def is_held() -> bool:
            task = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/hold"
            entries = self.airflow.call("GET", f"{task}/xcomEntries")["xcom_entries"]
            return any(entry["key"] == OPERATIONS_KEY for entry in entries)

        wait_until(is_held, what=f"{self.dag_id} to hold its operation")

    def succeed(self) -> float:
        """Make the operations and the task succeed; return the time once the task has succeeded."""
        for name in (self.name, self._failing):
            self.service.finish(name)
        self.airflow.wait_for_task(self.dag_id, self.run_id, "hold", "success")
        return time.time()

    def wait(self) -> None:
        """Make the task fail, and wait until it is up for retry."""
        self.service.finish(self._failing, "FAILED")
        self.airflow.wait_for_task(self.dag_id, self.run_id, "hold", "up_for_retry")
        assert self.state in ("PENDING", "RUNNING")

    def let_end(self) -> float:
        """End the task or its run; return the time."""
        airflow, dag_id, run_id = self.airflow, self.dag_id, self.run_id
        if self.end == "task_marked_failed":
            airflow.mark_task(dag_id, run_id, "hold", "failed")
        elif self.end == "task_cleared_while_paused":
            airflow.pause(dag_id, paused=True)
            airflow.clear(dag_id, run_id, "hold")
        elif self.end == "run_marked_failed":
            airflow.mark_run(dag_id, run_id, "failed")
        elif self.end == "fail_fast":
            self.service.finish(self.until)
            airflow.wait_for_task(dag_id, run_id, "hold", "skipped")
        elif self.end == "dagrun_timeout":
            airflow.wait_for_task(dag_id, run_id, "hold", "skipped")
        return time.time()

    @property
    def state(self) -> str:
        return self.service.state(self.name)

    def requested_at(self) -> float:
        """Return the time of the first cancel request."""
        return min(entry["time"] for entry in self.service.requests("POST", f"{self.name}:cancel"))


@pytest.fixture(scope="module")
def emulator(collected_emulator: Emulator) -> Emulator:
    return collected_emulator


@pytest.fixture(scope="module")
def airflow(collected_airflow: StandaloneAirflow) -> StandaloneAirflow:
    """An Airflow of its own: in that of the other tests, the collector is switched off."""
    return collected_airflow


@pytest.fixture(scope="module")
def held(airflow: StandaloneAirflow, emulator: Emulator) -> dict[str, Held]:
    airflow.wait_for_dags(*(f"collected_{end}" for end in ENDS))
    return {end: Held(airflow, emulator, end) for end in ENDS}


def test_collector_cancels_operations_that_no_task_needs(
    held: dict[str, Held], airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    for one in held.values():
        one.wait_until_held()
    succeeded = held["success"].succeed()
    for end, one in held.items():
        if end != "success":
            one.wait()
    ended = {end: one.let_end() for end, one in held.items() if end not in ("nothing", "success")}
    for end, moment in ended.items():
        wait_until(
            lambda end=end: held[end].state == "CANCELLED",  # type: ignore[misc]
            what=f"the cancel after {end}",
        )
        print(f"{end}: requested after {held[end].requested_at() - moment:.1f} s (at most {WITHIN:g} s when idle)")

    assert held["nothing"].state == "RUNNING"
    assert not emulator.service.requests("POST", f"{held['nothing'].name}:cancel")
    about_success = emulator.service.requests("*", f"{held['success'].name}*")
    assert not [entry for entry in about_success if entry["time"] > succeeded], (
        "A task that ends as usual costs nothing."
    )
    assert all(emulator.service.state(one.until) != "CANCELLED" for one in held.values())
    rows = airflow.call("GET", "/eventLogs?event=earth_engine.cancel&limit=100")["event_logs"]
    audited = {json.loads(row["extra"])["operation"]: row for row in rows if "collector" in row["owner"]}
    for end in ended:
        row = audited[held[end].name]
        assert (row["dag_id"], row["task_id"]) == (held[end].dag_id, "hold")
        print(f"{end}: {json.loads(row['extra'])['reason']}")


def test_scheduler_runs_the_collector_if_no_triggerer_runs(held: dict[str, Held], airflow: StandaloneAirflow) -> None:
    one = held["nothing"]
    airflow.kill("triggerer")
    try:
        airflow.mark_run(one.dag_id, one.run_id, "failed")
        ended = time.time()
        wait_until(lambda: one.state == "CANCELLED", what="the cancel by the scheduler's process")
    finally:
        airflow.start("triggerer")

    print(f"without a triggerer: requested after {one.requested_at() - ended:.1f} s")
