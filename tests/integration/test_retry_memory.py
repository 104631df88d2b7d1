"""A task's next try knows the operations of the last try, in ``dag.test()`` on every version of Airflow."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow import settings
from instances import Store, TaskInstance
from sqlalchemy import text
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, HAS_TASK_STATE_STORE
from airflow_ee_provider.collector.cancels import Cancels
from airflow_ee_provider.collector.variables import delete_unneeded
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook, EarthEngineServerHook
from airflow_ee_provider.tracking.kept_requests import Asked, all_started, record_all_started
from airflow_ee_provider.tracking.notes import SETTLED_KEY
from airflow_ee_provider.tracking.record import STARTED_KEY
from airflow_ee_provider.tracking.retry_memory import PREFIX, Variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=2)
    return earth_engine_emulator.service


@pytest.fixture(autouse=True)
def nothing_kept(airflow_database: None) -> None:
    """Delete the Variables of other tests."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    del airflow_database
    with create_session() as session:
        session.query(Variable).delete()


def ours() -> list[str]:
    """Return the keys of our Variables."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        rows: Any = session.query(Variable.key).filter(Variable.key.like(f"{PREFIX}%")).all()
    return [row.key for row in rows]


def clean() -> None:
    """Delete unneeded Variables, as the collector does every ten minutes."""
    delete_unneeded(settings.engine, Cancels(logging.getLogger(), EarthEngineServerHook, lambda _: None).running)


def assert_nothing_is_kept() -> None:
    """Assert that no Variable remains; in ``dag.test()`` of Airflow 2, no listener deletes them, so do it here."""
    if not AIRFLOW_3:
        clean()
    assert ours() == []


def are_settled(dag_id: str) -> bool:
    """Whether the last run's task has noted that none of its operations needs a cancel."""
    with settings.engine.connect() as connection:
        [recorded] = connection.execute(text("SELECT max(dag_run_id) FROM xcom WHERE dag_id = :dag"), {"dag": dag_id})
        rows = connection.execute(
            text("SELECT key FROM xcom WHERE dag_id = :dag AND dag_run_id = :run"), {"dag": dag_id, "run": recorded[0]}
        )
        return SETTLED_KEY in [row.key for row in rows]


def ended(service: Service) -> list[tuple[str, str]]:
    return [(one.description, service.state(name)) for name, one in service.operations.items()]


def test_the_next_try_waits_for_operations_that_it_does_not_start_again(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("retried_skips")

    assert ran.state == "success", ran.log
    assert ended(service) == [("a", "SUCCEEDED"), ("b", "SUCCEEDED")]
    assert ran.log.count("SUCCEEDED: ") >= 2, "Both are waited for."
    assert not service.requests("POST", "*:cancel")
    assert_nothing_is_kept()


def test_a_next_try_that_starts_nothing_waits_for_the_last_trys_operations(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("retried_skips_all")

    assert ran.state == "success", ran.log
    assert ended(service) == [("a", "SUCCEEDED")]
    assert_nothing_is_kept()


def test_a_try_that_cannot_read_the_last_one_leaves_its_operations_to_the_collector(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    """It knows no operation to cancel, so it must not note that none needs a cancel."""
    service.behave(pending_seconds=0, run_seconds=3600)

    ran = run_dag("retried_loses_the_connection")

    assert ran.state == "failed", ran.log
    assert ended(service) == [("a", "RUNNING")]
    assert not are_settled("retried_loses_the_connection")
    assert HAS_TASK_STATE_STORE or ours()


def test_a_block_leaves_what_the_authors_code_has_recorded_to_the_collector(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    name = service.add("b", run_seconds=3600)

    ran = run_dag("recorded_after_a_block", name)

    assert ran.state == "failed", ran.log
    assert ended(service) == [("b", "RUNNING"), ("a", "SUCCEEDED")]
    assert not are_settled("recorded_after_a_block")


def test_a_task_with_its_own_code_resumes_its_operations(service: Service, run_dag: Callable[..., Ran]) -> None:
    name = service.add("a", run_seconds=3600)

    ran = run_dag("retried_recorded", name)

    assert (ran.state, ran.result) == ("success", [name])


@pytest.mark.parametrize(("dag_id", "state"), [("", "RUNNING"), ("_and_cleared", "CANCELLED")])
def test_the_record_of_an_older_airflow_is_read_after_an_upgrade(
    service: Service, run_dag: Callable[..., Ran], dag_id: str, state: str
) -> None:
    name = service.add("a", run_seconds=3600)

    ran = run_dag(f"retried_after_an_upgrade{dag_id}", name)

    assert (ran.state, ran.result) == ("success", [name] if state == "RUNNING" else [])
    assert service.state(name) == state


@pytest.mark.skipif(HAS_TASK_STATE_STORE, reason="Airflow 3.3 has task_state_store: nothing is written to Variables")
def test_the_collector_deletes_the_variables_of_a_task_that_has_ended(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    """A task that records operations in its own code does not delete its Variables."""
    run_dag("retried_recorded", service.add("a", run_seconds=0))
    set_states("retried_recorded", "up_for_retry", "running")
    clean()
    assert len(ours()) == 1

    set_states("retried_recorded", "failed", "running")
    clean()

    assert ours() == []


@pytest.mark.skipif(HAS_TASK_STATE_STORE, reason="Airflow 3.3 has task_state_store: nothing is written to Variables")
def test_the_variables_of_exports_that_run_on_are_kept_until_these_end(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    """If a user clears the task, its next try finds them, and cancels before it starts the export again."""
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)

    ran = run_dag("export_and_go_in_worker")

    assert ran.state == "success", ran.log
    clean()
    assert len(ours()) > 0
    service.fail("unavailable", path="*operations*", times=20)
    clean()
    assert len(ours()) > 0, "While Earth Engine cannot be asked, they are kept."
    service.faults.clear()
    EarthEngineHook().cancel_operations(list(service.operations))
    clean()
    assert ours() == []


@pytest.mark.skipif(HAS_TASK_STATE_STORE, reason="Airflow 3.3 has task_state_store: nothing is written to Variables")
def test_the_variables_of_a_task_that_begins_while_the_collector_reads_are_kept(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    run_dag("retried_recorded", service.add("a", run_seconds=0))
    set_states("retried_recorded", "failed", "running")

    def cleared_meanwhile(_: object) -> set[str]:
        set_states("retried_recorded", "running", "running")
        return set()

    delete_unneeded(settings.engine, cleared_meanwhile)

    assert len(ours()) == 1


def test_what_a_deleted_run_has_started_is_not_taken_for_that_of_a_run_with_the_same_id() -> None:
    store = Store()

    def context_of(day: int) -> Any:
        run = SimpleNamespace(start_date=datetime(2026, 1, day, tzinfo=timezone.utc))
        return {"ti": TaskInstance(), "dag_run": run, "task_state_store": store}

    record_all_started(context_of(1), Asked(value="x"))

    assert all_started(context_of(2), store[STARTED_KEY]) is None
    same = all_started(context_of(1), store[STARTED_KEY])
    assert same is not None
    assert same.value == "x"


def test_a_users_variable_with_our_prefix_is_not_deleted() -> None:
    from airflow.models.variable import Variable

    Variable.set(f"{PREFIX}bucket", "b")
    try:
        clean()
        assert ours() == [f"{PREFIX}bucket"]
    finally:
        Variable.delete(f"{PREFIX}bucket")


def test_long_ids_fit_into_the_key_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Variable's key has at most 250 characters; the ids of a DAG, a run and a task may each have as many."""
    keys: list[str] = []
    monkeypatch.setattr("airflow_ee_provider.tracking.retry_memory.delete_variable", keys.append)

    class Instance:
        dag_id, run_id, task_id, map_index = "d" * 250, "r" * 250, "t" * 250, 7

    Variables(Instance()).delete("_earth_engine_operations_30")

    assert len(keys[0]) < 100
