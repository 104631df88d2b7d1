"""Several ``earth_engine()`` blocks of one task: each operation has one owner, in each try and process."""

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
from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.exports.requested import Made
from airflow_ee_provider.records import record_operations

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service
    from airflow_ee_provider.exports.starter import Starter

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
WAITING: dict[str, Any] = {"wait_for_completion": True, "poll_interval": 0.2}


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


def started_names(service: Service) -> list[str]:
    return [operation.description for operation in service.operations.values()]


def start(description: str) -> None:
    import ee

    ee.batch.Export.image.toCloudStorage(ee.Image(1), description, bucket="b", scale=1000).start()


def try_of(number: int, store: Store, max_tries: int = 1) -> Any:
    """Return the context of a try; all tries share the store. A clear raises ``max_tries``."""
    task = SimpleNamespace(execution_timeout=None, on_kill=lambda: None)
    return {
        "ti": TaskInstance(task=task, try_number=number, max_tries=max_tries),
        "dag_run": None,
        "task_state_store": store,
    }


def run_blocks(context: Any, *descriptions: str) -> None:
    """Run a block for each export; none waits."""
    for description in descriptions:
        with earth_engine(context):
            start(description)


def kill_in_a_block(context: Any, description: str) -> None:
    """Kill the task while a block waits for an export."""

    def block() -> None:
        with earth_engine(context, **WAITING):
            start(description)
            killer = Timer(0.1, context["ti"].task.on_kill)
            killer.start()
            killer.join()

    with pytest.raises(AirflowException):
        block()


def states(service: Service) -> dict[str, str]:
    return {operation.description: service.state(name) for name, operation in service.operations.items()}


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


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_a_block_that_the_authors_code_repeats_starts_nothing_again_that_runs(
    service: Service, max_restarts: int
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600)
    service.behave(description="bad", run_seconds=0.2, outcome="FAILED", message="Internal error.")
    context = try_of(1, Store())

    for _ in range(2):
        with suppress(AirflowException), earth_engine(context, **WAITING, max_restarts=max_restarts):
            start("bad")
            start("good")

    assert started_names(service).count("good") == 1


def test_a_kill_in_a_repeated_block_cancels_what_it_has_found(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    context = try_of(1, Store(), max_tries=0)
    with suppress(ValueError), earth_engine(context):
        start("x")
        raise ValueError

    kill_in_a_block(context, "x")

    assert states(service) == {"x": "CANCELLED"}


def test_a_kill_cancels_what_the_block_has_found_of_another_block_of_the_last_try(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    store = Store()
    run_blocks(try_of(1, store), "a", "b")
    context = try_of(2, store)
    run_blocks(context, "b")

    kill_in_a_block(context, "a")

    assert states(service) == {"a": "CANCELLED", "b": "RUNNING"}


def test_exports_that_are_meant_to_run_on_do_so_if_a_waiting_block_with_their_number_fails(service: Service) -> None:
    """The retry skips the first block, so that the second one gets its number."""
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    service.behave(description="bad", run_seconds=0.2, outcome="FAILED", message="No data.")
    store = Store()
    run_blocks(try_of(1, store), "archive")
    context = try_of(2, store)

    with pytest.raises(AirflowException, match="1 of 1 operations"), earth_engine(context, **WAITING):
        start("bad")
    end(context, "success")

    assert states(service) == {"archive": "RUNNING", "bad": "FAILED"}


@pytest.mark.parametrize("is_cleared", [False, True])
def test_what_a_task_only_watches_is_not_cancelled_by_its_next_try(service: Service, *, is_cleared: bool) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    store = Store()
    context = try_of(1, store, max_tries=0 if is_cleared else 1)
    record_operations(context, service.add("another task's", run_seconds=3600), ownership="observer")
    run_blocks(context, "mine")
    context = try_of(2, store)

    kill_in_a_block(context, "mine")

    assert states(service)["another task's"] == "RUNNING"
    assert "RUNNING" not in [
        service.state(name) for name, one in service.operations.items() if one.description == "mine"
    ]


def test_a_retry_skips_a_function_that_also_watches_anothers_operation(service: Service) -> None:
    store, calls = Store(), []
    watched = service.add("another task's", run_seconds=3600)

    def make(starter: Starter) -> Made:
        calls.append(context["ti"].try_number)
        record_operations(context, watched, ownership="observer")
        starts = [starter.prepare("image:export", {**BODY, "description": name}) for name in ("a", "b")]
        return Made([place_of(0), place_of(1)], starts)

    for number in (1, 2):
        context = try_of(number, store)
        operator = ExportingOperator(task_id="a", poll_interval=1, deferrable=False)
        operator.pre_execute(context)
        found = operator.start_and_wait(context, make)

    assert calls == [1]
    assert [one["description"] for one in found] == ["a", "b"]
    assert states(service) == {"another task's": "RUNNING", "a": "SUCCEEDED", "b": "SUCCEEDED"}


def test_a_task_that_resumes_in_another_process_owns_the_operations_of_its_blocks(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    before, resumed = try_of(1, store := Store(), max_tries=0), try_of(1, store, max_tries=0)
    with suppress(ValueError), earth_engine(before, **WAITING):
        start("a")
        raise ValueError
    resumed["ti"].xcoms = before["ti"].xcoms

    kill_in_a_block(resumed, "b")

    assert states(service) == {"a": "CANCELLED", "b": "CANCELLED"}


def test_a_block_in_a_function_does_not_let_the_retry_skip_the_function(service: Service) -> None:
    store, calls = Store(), []

    def make(starter: object) -> Made:
        del starter
        calls.append(context["ti"].try_number)
        with earth_engine(context, **WAITING):
            start("a")
        if len(calls) == 1:
            raise ValueError
        return Made("value", [])

    for number in (1, 2):
        context = try_of(number, store)
        operator = ExportingOperator(task_id="a", poll_interval=1, deferrable=False)
        operator.pre_execute(context)
        with suppress(ValueError):
            assert operator.start_and_wait(context, make) == "value"

    assert calls == [1, 2]
    assert started_names(service) == ["a"]


def test_a_block_after_one_that_could_not_read_the_last_try_continues_with_its_own(service: Service) -> None:
    """The first block's error is caught. At the end of the task, it cancels what no other block has taken over."""
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    store = Store()
    run_blocks(try_of(1, store), "a", "b")
    context = try_of(2, store)
    service.fail("permission_denied", method="GET", path="*/operations/*", times=4)

    for description in ("a", "b"):
        with suppress(AirflowException), earth_engine(context):
            start(description)
    end(context, "success")

    assert states(service) == {"a": "CANCELLED", "b": "RUNNING"}


def test_a_kill_in_a_retrys_first_block_cancels_what_later_blocks_have_started_before(service: Service) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    store = Store()
    before = try_of(1, store)
    for description in ("first", "second"):
        with suppress(ValueError), earth_engine(before, **WAITING):
            start(description)
            raise ValueError
    context = try_of(2, store)

    kill_in_a_block(context, "first")

    assert states(service) == {"first": "CANCELLED", "second": "CANCELLED"}


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
