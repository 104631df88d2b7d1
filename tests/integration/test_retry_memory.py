"""A task's next try knows the operations of the last try, in ``dag.test()`` on every version of Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow import settings
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, HAS_TASK_STATE_STORE
from airflow_ee_provider.collector.thread import delete_unneeded
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


def assert_nothing_is_kept() -> None:
    """Assert that no Variable remains; in ``dag.test()`` of Airflow 2, no listener deletes them, so do it here."""
    if not AIRFLOW_3:
        delete_unneeded(settings.engine)
    assert ours() == []


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
    run_dag("retried_recorded", service.add("a", run_seconds=3600))
    set_states("retried_recorded", "up_for_retry", "running")
    delete_unneeded(settings.engine)
    assert len(ours()) == 1

    set_states("retried_recorded", "failed", "running")
    delete_unneeded(settings.engine)

    assert ours() == []


def test_a_users_variable_with_our_prefix_is_not_deleted() -> None:
    from airflow.models.variable import Variable

    Variable.set(f"{PREFIX}bucket", "b")
    try:
        delete_unneeded(settings.engine)
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
