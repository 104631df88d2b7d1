"""The tasks of each operation, and which operations are orphaned."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select
from stored import forget_what_is_stored
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.stored_values import task_store_table, xcom_backend, xcom_table
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking import database, overview
from airflow_ee_provider.tracking.database import Recorded, read_holdings
from airflow_ee_provider.tracking.holders import HeldOperation, Holder, Holding, join, orphans_among
from airflow_ee_provider.tracking.overview import read_overview

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

RUNNING = Operation.from_api({"name": "projects/p/operations/A", "metadata": {"state": "RUNNING"}})
ENDED = Operation.from_api({"name": "projects/p/operations/B", "done": True, "response": {}})
TASK = Holder("dag", "run", "task", ownership="owner")


@pytest.mark.parametrize(
    ("task_state", "run_state", "ownership", "orphaned"),
    [
        *((state, "running", "owner", False) for state in ("running", "deferred", "scheduled", "queued")),
        *((state, "running", "owner", False) for state in ("up_for_retry", "up_for_reschedule", "restarting")),
        ("failed", "running", "owner", True),
        ("failed", "failed", "owner", True),
        ("upstream_failed", "failed", "owner", True),
        ("success", "running", "owner", False),  # Another task of the run may have received it.
        ("success", "success", "owner", True),  # Marked by a user, where Airflow notifies no trigger.
        (None, "running", "owner", False),  # Cleared: another try follows.
        (None, "failed", "owner", True),
        ("removed", "running", "owner", True),
        ("success", "success", "handed_off", False),
        ("success", "failed", "handed_off", True),
        ("failed", "failed", "observer", False),
        ("failed", "failed", "canceller", False),
    ],
)
def test_an_operation_is_orphaned_once_no_task_can_need_it(
    task_state: str | None, run_state: str, ownership: str, orphaned: bool
) -> None:
    holder = replace(TASK, task_state=task_state, run_state=run_state, ownership=ownership)

    assert HeldOperation(RUNNING, (holder,)).orphaned is orphaned
    assert not HeldOperation(ENDED, (holder,)).orphaned


def test_an_operation_without_a_holder_is_not_orphaned() -> None:
    assert not HeldOperation(RUNNING).orphaned


def test_an_operation_that_one_of_its_tasks_needs_is_not_orphaned() -> None:
    failed = replace(TASK, task_state="failed", run_state="failed")
    watching = replace(TASK, dag_id="another", task_state="deferred", run_state="running", ownership="observer")

    [held] = join([RUNNING], [Holding(failed, (str(RUNNING.name),)), Holding(watching, (str(RUNNING.name),))])

    assert held.holders == (watching, failed)
    assert not held.orphaned


def test_a_project_number_is_treated_as_the_projects_id() -> None:
    failed = replace(TASK, task_state="failed", run_state="failed")
    watching = replace(TASK, dag_id="another", task_state="deferred", run_state="running", ownership="observer")

    [held] = join([RUNNING], [Holding(failed, (str(RUNNING.name),)), Holding(watching, ("projects/123/operations/A",))])

    assert not held.orphaned


def test_orphans_have_an_owner_that_has_ended_and_no_task_that_waits() -> None:
    failed = replace(TASK, task_state="failed", run_state="failed")
    watching = replace(TASK, dag_id="another", task_state="deferred", run_state="running", ownership="observer")
    names = [f"projects/p/operations/{name}" for name in "ABC"]

    orphans = orphans_among(
        names, [Holding(failed, (names[0], "projects/123/operations/B")), Holding(watching, (names[1],))]
    )

    assert orphans == {names[0]: "dag.task of run (failed; its run failed)"}


@pytest.fixture
def running(earth_engine_emulator: Emulator) -> str:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    return earth_engine_emulator.service.add("ndvi")


def recent() -> datetime:
    return datetime.now(timezone.utc) - timedelta(minutes=5)


def test_the_record_of_a_task_is_read_from_the_database(running: str, run_dag: Callable[..., Ran]) -> None:
    run_dag("held_owner", running)

    [holding] = read_holdings([running], recent())
    assert holding.operation_names == (running,)
    assert (holding.holder.dag_id, holding.holder.task_id, holding.holder.map_index) == ("held_owner", "task", -1)
    assert (holding.holder.task_state, holding.holder.run_state) == ("success", "success")
    assert holding.holder.ownership == "owner"
    assert not read_holdings([running], datetime.now(timezone.utc) + timedelta(hours=1))
    assert not read_holdings(["projects/p/operations/ANOTHER"], recent())


def test_a_repeated_read_follows_changes(
    earth_engine_emulator: Emulator, running: str, run_dag: Callable[..., Ran]
) -> None:
    """The first read finds a record; later reads find its task's new state, another record, and its deletion."""
    recorded, another = Recorded(), earth_engine_emulator.service.add("another")
    run_dag("held_owner", running)

    def read(*names: str) -> dict[str, list[str | None]]:
        operations = [EarthEngineHook().get_operation(name) for name in names]
        return {
            str(one.operation.name).rpartition("/")[2]: [holder.task_state for holder in one.holders]
            for one in join(operations, recorded.of(operations))
        }

    first, second = (name.rpartition("/")[2] for name in (running, another))
    assert read(running) == {first: ["success"]}
    set_states("held_owner", "failed", "failed")
    assert read(running) == {first: ["failed"]}
    run_dag("held_observer", running)
    run_dag("held_canceller", another)
    assert [len(states) for states in read(running, another).values()] == [2, 1]
    forget_records("held_owner")
    assert [len(states) for states in read(running, another).values()] == [1, 1]
    assert read(another).keys() == {second}


def test_a_record_that_could_not_be_read_is_read_again(
    running: str, run_dag: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, operation = Recorded(), EarthEngineHook().get_operation(running)
    run_dag("held_observer", running)
    forget_what_is_stored()
    monkeypatch.setattr(database, "TRIED_AGAIN_AFTER", timedelta(0))
    with monkeypatch.context() as backend:
        backend.setattr(xcom_backend(), "deserialize_value", unavailable)
        assert recorded.of([operation]) == []

    assert [one.operation_names for one in recorded.of([operation])] == [(running,)]


def unavailable(_: object) -> None:
    raise OSError("The object store does not answer.")


def test_a_long_list_is_read_once_a_minute_and_its_active_operations_by_name(
    earth_engine_emulator: Emulator, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "LONG", 1)
    service = earth_engine_emulator.service
    for _ in range(3):
        service.add("ended", run_seconds=0)
    overviews = overview.ActiveOverviews()

    def read() -> list[str]:
        return [str(one.held.operation.name) for one in overviews.read(["earth_engine_default"]).operations]

    assert read() == [running]
    assert read() == [running]
    assert len(service.requests("GET", "*/operations")) == 1
    assert len(service.requests("GET", f"*{running}")) == 1
    service.finish(running)
    new = service.add("new")
    assert read() == []
    monkeypatch.setattr(overview, "LONG_STANDS", 0)
    assert read() == [new]


def forget_records(dag_id: str) -> None:
    """Delete the records of a DAG's tasks, as Airflow does when a task is cleared."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    tries = select(TaskInstance.id).where(TaskInstance.dag_id == dag_id) if AIRFLOW_3 else ()
    with create_session() as session:
        for table in (xcom_table(), task_store_table()):
            if table is not None:
                of = table.c
                is_its_own = of.dag_id == dag_id if "dag_id" in of else of.task_instance_id.in_(tries)
                session.execute(delete(table).where(is_its_own))


def test_the_overview_shows_the_tasks_of_each_operation(
    earth_engine_emulator: Emulator, running: str, run_dag: Callable[..., Ran]
) -> None:
    untracked = earth_engine_emulator.service.add("a colleague's")
    run_dag("held_owner", running)
    set_states("held_owner", "failed", "failed")

    read = read_overview(["earth_engine_default", "not_defined"])

    shown: dict[str, Any] = {one["name"]: one for one in (op.as_dict() for op in read.operations)}
    assert shown[running]["orphaned"]
    assert shown[running]["holders"][0]["dag_id"] == "held_owner"
    assert not shown[untracked]["orphaned"]
    assert shown[untracked]["holders"] == []
    assert "not_defined" in read.errors["not_defined"]
