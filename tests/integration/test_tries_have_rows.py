"""From Airflow 3.4 on, each try has its own row and XComs, and a task instance belongs to a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, update
from stored import forget_what_is_stored
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import database_of_its_own
from airflow_ee_provider.base.stored_values import earlier_xcoms, xcom_table
from airflow_ee_provider.collector.thread import make_collector
from airflow_ee_provider.tracking.overview import read_overview

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

pytestmark = pytest.mark.skipif(earlier_xcoms() is None, reason="Before Airflow 3.4, a task instance has one row.")


@pytest.fixture
def owned(owned: str) -> str:
    """The operation of a task that is deferred."""
    set_states("owned", "deferred", "running")
    return owned


def execute(*statements: Any) -> None:
    from airflow.utils.session import create_session

    with create_session() as session:
        for statement in statements:
            session.execute(statement)


def tables() -> tuple[Any, Any]:
    from airflow.models.taskinstance import TaskInstance

    return TaskInstance.__table__, xcom_table()


def holders_of(name: str) -> list[tuple[int, str | None]]:
    """Return the tries, each with its state, that the page shows for an operation."""
    [shown] = [
        one for one in read_overview(["earth_engine_default"]).operations if str(one.held.operation.name) == name
    ]
    return [(holder.try_number, holder.task_state) for holder in shown.held.holders]


def look() -> None:
    """Let a new collector look, and cancel at once."""
    make_collector(database_of_its_own(), 0.0).look()


def check_that_it_is_cancelled_once_its_task_has_failed(name: str, emulator: Emulator, holder: tuple[int, str]) -> None:
    """Check that the page shows the operation's task, and that the collector cancels it once its task has failed."""
    look()

    assert holders_of(name) == [holder]
    assert emulator.service.state(name) == "RUNNING"

    set_states("owned", "failed", "running")
    look()

    assert emulator.service.state(name) == "CANCELLED"


def test_the_record_of_an_earlier_try_belongs_to_the_current_task_instance(
    owned: str, earth_engine_emulator: Emulator
) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "owned")).one()
        ti.state = "up_for_retry"
        session.flush()
        ti.prepare_db_for_next_try(session)

    check_that_it_is_cancelled_once_its_task_has_failed(owned, earth_engine_emulator, (2, "up_for_retry"))


def move_to_before_the_upgrade() -> None:
    """Move all XComs to where an upgrade from Airflow 3.3 leaves them."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import LegacyTaskDataOwner
    from airflow.models.xcom import XComModelV1

    task, xcom = tables()
    run = DagRun.__table__
    instance = (task.c.dag_id, task.c.task_id, task.c.run_id, task.c.region_index)
    of_instance = ("dag_id", "task_id", "run_id", "map_index")
    rows = task.join(xcom, xcom.c.task_instance_id == task.c.id).join(run, run.c.run_id == task.c.run_id)
    columns = ("key", "value", "timestamp")
    old = select(run.c.id, *instance, *(xcom.c[name] for name in columns)).select_from(rows)
    execute(
        insert(LegacyTaskDataOwner.__table__).from_select(
            (*of_instance, "task_instance_id"), select(*instance, task.c.id)
        ),
        insert(XComModelV1.__table__).from_select(("dag_run_id", *of_instance, *columns), old),
        delete(xcom),
    )
    forget_what_is_stored()


def test_a_record_from_before_an_upgrade_is_read(owned: str, earth_engine_emulator: Emulator) -> None:
    move_to_before_the_upgrade()

    check_that_it_is_cancelled_once_its_task_has_failed(owned, earth_engine_emulator, (1, "deferred"))


def test_task_instances_of_two_regions_with_the_same_index_are_distinct(
    owned: str, earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    """A task that is mapped in a loop has such instances; here, the instance of another run becomes the second one."""
    from airflow.models.dagrun import DagRun

    ended = earth_engine_emulator.service.add("of the region that has ended")
    run_dag("owned_too", ended)
    task, _ = tables()
    run = DagRun.__table__.c
    [first] = select_all(select(run.run_id, run.id).where(run.dag_id == "owned"))
    here = {"dag_id": "owned", "run_id": first.run_id, "region_id": UUID(int=1), "region_index": 0}
    execute(
        update(task).where(task.c.dag_id == "owned_too").values(**here, state="failed"),
        update(task).where(task.c.dag_id == "owned").values(region_index=0),
    )
    forget_what_is_stored()

    look()

    assert holders_of(owned) == [(1, "deferred")]
    assert earth_engine_emulator.service.state(owned) == "RUNNING"
    assert earth_engine_emulator.service.state(ended) == "CANCELLED"


def select_all(statement: Any) -> list[Any]:
    from airflow.utils.session import create_session

    with create_session() as session:
        return list(session.execute(statement))
