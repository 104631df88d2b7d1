"""How often a task asks Airflow: each question is a request to its API server, for each task that is deferred."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from instances import TaskInstance
from supervised import answer_as_supervisor

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.lifecycle import handover
from airflow_ee_provider.lifecycle.handover import TAKEN_OVER_KEY, Handover
from airflow_ee_provider.operators.earth_engine import EarthEngineExportOperator
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, TRY_KEY

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
#: Looks before the trigger has begun.
LOOKS = 6

of_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 asks its database")
not_of_3_0 = pytest.mark.skipif(airflow_version.startswith("3.0"), reason="Airflow 3.0 is asked in another way")


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "INTERVAL", 0.01)
    monkeypatch.setattr(handover, "GROWTH", 0.0)


@of_airflow_3
@not_of_3_0
def test_while_a_task_waits_for_its_trigger_a_look_takes_two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    ti, acts = TaskInstance(), list[Any]()
    waiting = Handover(ti, lambda *what: acts.append(what), logging.getLogger())
    supervisor = answer_as_supervisor(monkeypatch, ti, "deferred")
    supervisor.xcoms[TAKEN_OVER_KEY] = (waiting.token, LOOKS)

    waiting.before_stopping(None)

    # Each look asks for the takeover, and for the state; the first and the last look for the rest as well.
    assert supervisor.asked == {TAKEN_OVER_KEY: LOOKS + 1, "GetTaskStates": LOOKS + 1, "GetDagRunState": 2, TRY_KEY: 2}
    assert acts == []


@of_airflow_3
@not_of_3_0
@pytest.mark.parametrize("state", ["failed", "success", "removed"])
def test_a_task_that_is_marked_meanwhile_is_cancelled_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    ti, acts = TaskInstance(), list[Any]()
    waiting = Handover(ti, lambda *what: acts.append(what), logging.getLogger())
    supervisor = answer_as_supervisor(monkeypatch, ti, "deferred")
    send = supervisor.send

    def send_until_marked(msg: Any) -> Any:
        supervisor._state = state if supervisor.asked["GetTaskStates"] >= LOOKS else "deferred"
        return send(msg)

    monkeypatch.setattr(supervisor, "send", send_until_marked)

    waiting.before_stopping(None)

    assert [why for _, why in acts] == [f"The task is {state}, and its trigger has not begun"]


@dataclass
class Counting(TaskInstance):
    """A task instance that counts what is read."""

    reads: Counter[str] = field(default_factory=Counter)

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        self.reads[key] += 1
        return super().xcom_pull(task_ids, map_indexes, key)


def test_an_export_reads_its_record_four_times_in_its_life(earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.2)
    ti, task = Counting(), EarthEngineExportOperator(task_id="a", kind="image", body=BODY, poll_interval=1)

    task.pre_execute({"ti": ti})
    task.execute({"ti": ti})

    # At its beginning, after the function, before the name is written, and at its end: another try may have begun.
    assert ti.reads[OPERATIONS_KEY] == 4
