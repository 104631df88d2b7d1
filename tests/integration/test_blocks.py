"""``ee`` in Airflow's own tasks: a task owns the operations that it starts in an ``earth_engine()`` block."""

from __future__ import annotations

from contextlib import suppress
from threading import Timer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from instances import Store, TaskInstance

from airflow_ee_provider.base import process
from airflow_ee_provider.client import earth_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


def started_names(service: Service) -> list[str]:
    return [operation.description for operation in service.operations.values()]


@pytest.mark.parametrize(("dag_id", "description"), [("block_in_task", "task"), ("block_in_python_operator", "python")])
def test_a_plain_task_waits_with_wait_for_completion(
    service: Service, run_dag: Callable[..., Ran], dag_id: str, description: str
) -> None:
    ran = run_dag(dag_id)

    assert ran.state == "success", ran.log
    assert started_names(service) == [description]
    [name] = service.operations
    assert ran.result == [name.rpartition("/")[2], ["SUCCEEDED"]]
    assert not service.requests("POST", "*:cancel")


def test_a_custom_operator_does_not_wait_by_default(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.behave(pending_seconds=0, run_seconds=3600)

    ran = run_dag("block_in_operator")

    assert ran.state == "success", ran.log
    assert ran.result == list(service.operations)
    assert [service.state(name) for name in service.operations] == ["RUNNING"]


def test_an_exception_cancels_the_operations_of_the_block(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    ran = run_dag("block_that_breaks")

    assert ran.state == "failed"
    assert "The second one is no good." in ran.log
    assert [service.state(name) for name in service.operations] == ["CANCELLED"]


def test_a_failed_blocks_other_exports_are_cancelled_even_if_the_task_succeeds(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    service.behave(description="bad", run_seconds=0.2, outcome="FAILED", message="No data.")

    ran = run_dag("block_that_breaks_and_is_caught")

    assert ran.state == "success", ran.log
    assert "Caught: " in ran.log
    assert {one.description: service.state(name) for name, one in service.operations.items()} == {
        "bad": "FAILED",
        "good": "CANCELLED",
    }


def start(description: str) -> None:
    import ee

    ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", scale=1000).start()


def try_of(number: int, store: Store) -> Any:
    """Return the context of a try; all tries share the store. No listener of the last try is left."""
    task = SimpleNamespace(execution_timeout=None, on_kill=lambda: None)
    return {"ti": TaskInstance(task=task, try_number=number, max_tries=1), "dag_run": None, "task_state_store": store}


def end(context: Any, state: str) -> None:
    """End the task's process as Airflow does after it has decided on the task's state."""
    context["ti"].state = state
    process._listener_manager().hook.before_stopping(component=None)


def test_each_block_has_only_its_own_operations(service: Service) -> None:
    service.behave(description="bad", run_seconds=0.2, outcome="FAILED", message="No data.")
    context, ended = try_of(1, Store()), {}

    for description in ("bad", "good", "fine"):
        try:
            with earth_engine(context, wait_for_completion=True, poll_interval=0.2) as started:
                start(description)
            ended[description] = [one["description"] for one in started.operations]
        except AirflowException as error:
            ended[description] = [type(error).__name__]

    assert ended == {"bad": ["AirflowFailException"], "good": ["good"], "fine": ["fine"]}


def test_equal_starts_in_two_blocks_are_two_and_a_retry_finds_both(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600)
    store, names = Store(), []

    for number in (1, 2):
        context = try_of(number, store)
        for _ in range(2):
            with earth_engine(context) as started:
                start("same")
            names += started.operation_names

    assert len(service.operations) == 2
    assert names == list(service.operations) * 2


def test_a_retry_with_fewer_blocks_starts_nothing_again(service: Service) -> None:
    """The author's code skips a block whose output exists."""
    service.behave(pending_seconds=0, run_seconds=3600)
    store = Store()

    for number, years in ((1, ("2000", "2001")), (2, ("2001",))):
        context = try_of(number, store)
        for year in years:
            with earth_engine(context):
                start(year)

    assert started_names(service) == ["2000", "2001"]


@pytest.mark.parametrize(("outcome", "starts"), [("SUCCEEDED", 1), ("FAILED", 2)])
def test_a_block_that_the_authors_code_repeats_starts_again_what_has_failed(
    service: Service, outcome: str, starts: int
) -> None:
    """A block fails, after its export has started or because of it, and the author's code repeats the block."""
    service.behave(run_seconds=0.2, outcome=outcome, message="No data.")
    context = try_of(1, Store())

    for attempt in range(2):
        if attempt:
            service.behave(run_seconds=0.2)
        with suppress(AirflowException, ValueError), earth_engine(context, wait_for_completion=True, poll_interval=0.2):
            start("x")
            if not attempt and outcome == "SUCCEEDED":
                raise ValueError

    states = [service.state(name) for name in service.operations]
    assert states == (["FAILED", "SUCCEEDED"] if starts == 2 else ["SUCCEEDED"])


def test_a_block_after_one_that_could_not_read_the_last_try_continues_with_its_own(service: Service) -> None:
    """The first block's error is caught. At the end of the task, it cancels what no other block has taken over."""
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    store = Store()
    context = try_of(1, store)
    for description in ("a", "b"):
        with earth_engine(context):
            start(description)
    context = try_of(2, store)
    service.fail("permission_denied", method="GET", path="*/operations/*", times=4)

    for description in ("a", "b"):
        with suppress(AirflowException), earth_engine(context):
            start(description)
    end(context, "success")

    states = {one.description: service.state(name) for name, one in service.operations.items()}
    assert states == {"a": "CANCELLED", "b": "RUNNING"}


def test_a_kill_in_a_retrys_first_block_cancels_what_later_blocks_have_started_before(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    store = Store()
    context = try_of(1, store)
    for description in ("first", "second"):
        with earth_engine(context):
            start(description)
    context = try_of(2, store)

    def block() -> None:
        with earth_engine(context, wait_for_completion=True, poll_interval=0.2):
            start("first")
            killer = Timer(0.1, context["ti"].task.on_kill)
            killer.start()
            killer.join()

    with pytest.raises(AirflowException):
        block()

    states = {one.description: service.state(name) for name, one in service.operations.items()}
    assert states == {"first": "CANCELLED", "second": "CANCELLED"}


def test_a_retry_reads_each_blocks_operations_with_an_account_that_may(
    service: Service, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600)
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", earth_engine_emulator.airflow_connection())
    store = Store()

    for number in (1, 2):
        context = try_of(number, store)
        if number == 2:
            service.fail("permission_denied", method="GET", path="*/operations/*", times=1)
        for conn_id in ("earth_engine_default", "other"):
            with earth_engine(context, earth_engine_conn_id=conn_id):
                start(conn_id)

    assert len(service.operations) == 2


def test_a_kill_in_the_block_cancels_its_operation_and_calls_the_tasks_on_kill(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    killed: list[str] = []
    task = SimpleNamespace(execution_timeout=None, on_kill=lambda: killed.append("own"))
    own = task.on_kill
    context: Any = {"ti": TaskInstance(task=task), "dag_run": None}

    def block() -> None:
        import ee

        with earth_engine(context, wait_for_completion=True, poll_interval=0.2):
            ee.batch.Export.image.toCloudStorage(ee.Image(1), "x", bucket="b", scale=1000).start()
            killer = Timer(0.1, task.on_kill)
            killer.start()
            killer.join()

    with pytest.raises(AirflowException):
        block()

    assert killed == ["own"]
    assert [service.state(name) for name in service.operations] == ["CANCELLED"]
    assert task.on_kill is own
