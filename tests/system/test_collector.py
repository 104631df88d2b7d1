"""The collector, on a real Airflow: tasks that are ended between two tries, with nothing in the DAG that cancels."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from cells import PROJECT

from airflow_ee_provider.airflow_api import wait_until
from airflow_ee_provider.tasks.record_format import OPERATIONS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

ENDS = (
    "task_marked_failed",
    "task_cleared_while_paused",
    "run_marked_failed",
    "dagrun_timeout",
    "fail_fast",
    "nothing",
)

#: Seconds from the end of a task or a run to the cancel's request, on an idle system.
WITHIN = 90.0


def make_connection(airflow: StandaloneAirflow) -> None:
    """Keep a connection in Airflow's database, as in production: the triggerer's process has to find it there."""
    connection = json.loads(airflow.environment["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"])
    body = {**connection, "connection_id": "in_the_database", "extra": json.dumps(connection["extra"])}
    airflow.call("POST", "/connections", body)


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
        """Wait until the task has recorded what it holds."""

        def is_held() -> bool:
            return self.airflow.xcom(self.dag_id, self.run_id, "hold", OPERATIONS_KEY) is not None

        wait_until(is_held, timeout=240, what=f"{self.dag_id} to hold its operation")

    def wait(self) -> None:
        """Wait until the task is to be tried again."""
        self.service.finish(self._failing, "FAILED")
        self.airflow.wait_for_task(self.dag_id, self.run_id, "hold", "up_for_retry", timeout=240)
        assert self.state in ("PENDING", "RUNNING")

    def let_end(self) -> float:
        """Do it; returns when."""
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
            airflow.wait_for_task(dag_id, run_id, "hold", "skipped", timeout=180)
        return time.time()

    @property
    def state(self) -> str:
        return self.service.state(self.name)

    def requested_at(self) -> float:
        """Return when the cancel was requested."""
        return min(entry["time"] for entry in self.service.requests("POST", f"{self.name}:cancel"))


@pytest.fixture(scope="module")
def held(airflow: StandaloneAirflow, emulator: Emulator) -> Iterator[dict[str, Held]]:
    make_connection(airflow)
    airflow.wait_for_dags(*(f"collected_{end}" for end in ENDS))
    yield {end: Held(airflow, emulator, end) for end in ENDS}
    airflow.pause("collected_task_cleared_while_paused", paused=False)


def test_what_no_task_needs_is_cancelled_with_nothing_in_the_dag(
    held: dict[str, Held], airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    for one in held.values():
        one.wait_until_held()
    for one in held.values():
        one.wait()
    ended = {end: one.let_end() for end, one in held.items() if end != "nothing"}
    for end, moment in ended.items():
        wait_until(
            lambda end=end: held[end].state == "CANCELLED",  # type: ignore[misc]
            timeout=300,
            what=f"the cancel after {end}",
        )
        print(f"{end}: requested after {held[end].requested_at() - moment:.1f} s (at most {WITHIN:g} s when idle)")

    assert held["nothing"].state == "RUNNING"
    assert not emulator.service.requests("POST", f"{held['nothing'].name}:cancel")
    assert all(emulator.service.state(one.until) != "CANCELLED" for one in held.values())
    rows = airflow.call("GET", "/eventLogs?event=earth_engine.cancel&limit=100")["event_logs"]
    audited = {json.loads(row["extra"])["operation"]: row for row in rows if "collector" in row["owner"]}
    for end in ended:
        row = audited[held[end].name]
        assert (row["dag_id"], row["task_id"]) == (held[end].dag_id, "hold")
        print(f"{end}: {json.loads(row['extra'])['reason']}")
