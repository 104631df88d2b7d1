"""How many requests a task sends to Airflow's API server: each deferred task sends them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import TaskDeferred
from instances import TaskInstance
from supervised import answer_as_supervisor

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, TRY_KEY

if TYPE_CHECKING:
    from supervised import Supervisor

    from airflow_ee_provider.emulator import Emulator

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}

of_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 asks its database")
not_of_3_0 = pytest.mark.skipif(airflow_version.startswith("3.0"), reason="Airflow 3.0 is asked in another way")


def deferred(monkeypatch: pytest.MonkeyPatch) -> tuple[EarthEngineExportOperator, Supervisor]:
    """Return a task that has just deferred, and the supervisor that answers its requests."""
    ti, task = TaskInstance(), EarthEngineExportOperator(task_id="a", kind="image", body=BODY, deferrable=True)
    supervisor = answer_as_supervisor(monkeypatch, ti, "running")
    task.pre_execute({"ti": ti})
    with pytest.raises(TaskDeferred):
        task.execute({"ti": ti})
    supervisor.asked.clear()
    return task, supervisor


@of_airflow_3
@not_of_3_0
def test_a_task_that_defers_sends_three_requests_to_airflow_and_cancels_nothing(
    earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, supervisor = deferred(monkeypatch)
    supervisor.state = "deferred"

    task.ending.before_stopping(None)

    assert supervisor.asked == {"GetTaskStates": 1, "GetDagRunState": 1, TRY_KEY: 1}
    [operation] = earth_engine_emulator.service.operations
    assert earth_engine_emulator.service.state(operation) in ("PENDING", "RUNNING")


@of_airflow_3
@not_of_3_0
@pytest.mark.parametrize("state", ["failed", "success", "removed"])
def test_a_task_that_was_marked_just_before_its_deferral_cancels(
    earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    earth_engine_emulator.service.behave(cancel_seconds=0)
    task, supervisor = deferred(monkeypatch)
    supervisor.state = state

    task.ending.before_stopping(None)

    [operation] = earth_engine_emulator.service.operations
    assert earth_engine_emulator.service.state(operation) == "CANCELLED"


@of_airflow_3
@not_of_3_0
@pytest.mark.parametrize(("has_next_try_begun", "state"), [(True, "RUNNING"), (False, "CANCELLED")])
def test_a_process_that_another_try_has_replaced_leaves_it_the_operations(
    earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, *, has_next_try_begun: bool, state: str
) -> None:
    """Airflow has lost the process, and deletes what it has recorded, as the next try begins; without retries, too."""
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    ti, task = TaskInstance(), EarthEngineExportOperator(task_id="a", kind="image", body=BODY, poll_interval=1)
    answer_as_supervisor(monkeypatch, ti, "running")

    context: Any = {"ti": ti, "dag_run": None}
    task.pre_execute(context)
    task.begin(context)
    starter = task.new_starter(context)
    starter.start(starter.prepare("image:export", BODY))
    starter.flush()
    if has_next_try_begun:
        ti.xcoms.clear()

    task.on_kill()

    [operation] = earth_engine_emulator.service.operations
    assert earth_engine_emulator.service.state(operation) == state


@dataclass
class Counting(TaskInstance):
    """A task instance that counts the reads of each XCom."""

    reads: Counter[str] = field(default_factory=Counter)

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        self.reads[key] += 1
        return super().xcom_pull(task_ids, map_indexes, key)


def test_an_export_task_reads_its_record_four_times(earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.2)
    ti, task = Counting(), EarthEngineExportOperator(task_id="a", kind="image", body=BODY, poll_interval=1)

    task.pre_execute({"ti": ti})
    task.execute({"ti": ti})

    # At its start, after the function, before the name is written, and at its end: another try may have begun.
    assert ti.reads[OPERATIONS_KEY] == 4
