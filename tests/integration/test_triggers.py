"""Triggers on an event loop, as the triggerer runs them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from supervised import answer_as_supervisor

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, calls_triggers_on_kill
from airflow_ee_provider.earth_engine.transport import shared_client
from airflow_ee_provider.earth_engine.transport.transports import aiohttp_session
from airflow_ee_provider.tracking.notes import RESUMED_KEY
from airflow_ee_provider.triggers.earth_engine import (
    EarthEngineCancelOperationsTrigger,
    EarthEngineOperationsTrigger,
    EarthEngineQueueTrigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

HOOK = {"earth_engine_conn_id": "earth_engine_default", "poll_interval": 0.1}


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    return earth_engine_emulator


def restarted(trigger: Any) -> Any:
    """Create a trigger from its serialized form, as the triggerer does."""
    path, kwargs = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    return type(trigger)(**kwargs)


async def event_of(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


def test_a_trigger_survives_a_restart_and_reports_the_end(emulator: Emulator) -> None:
    names = [emulator.service.add("a", run_seconds=0.5), emulator.service.add("b", run_seconds=0)]
    trigger = EarthEngineOperationsTrigger(operation_names=names, cancel_on_kill=True, timeout_at=1e12, **HOOK)

    event = asyncio.run(event_of(restarted(trigger)))

    assert [operation["state"] for operation in event["result"]] == ["SUCCEEDED"] * 2


def test_the_first_failure_ends_the_wait(emulator: Emulator) -> None:
    names = [emulator.service.add("a"), emulator.service.add("b", run_seconds=0.3, outcome="FAILED")]

    event = asyncio.run(event_of(EarthEngineOperationsTrigger(operation_names=names, **HOOK)))

    states = {operation["name"]: operation["state"] for operation in event["result"]}
    assert states.pop(names[1]) == "FAILED"
    assert states in ({names[0]: "RUNNING"}, {names[0]: "PENDING"}, {})  # It may not have been read yet.


def test_the_event_of_many_operations_is_small(emulator: Emulator) -> None:
    outcomes = ["SUCCEEDED"] * 24 + ["FAILED"]
    names = [emulator.service.add("a", run_seconds=0, outcome=outcome) for outcome in outcomes]

    event = asyncio.run(event_of(EarthEngineOperationsTrigger(operation_names=names, stop_at_failure=False, **HOOK)))

    assert event == {"states": {"SUCCEEDED": 24, "FAILED": 1}}


def test_the_event_of_an_error_contains_whether_it_is_permanent(emulator: Emulator) -> None:
    emulator.service.fail("permission_denied", times=None)

    event = asyncio.run(
        event_of(EarthEngineOperationsTrigger(operation_names=["projects/earth-demo/operations/A"], **HOOK))
    )

    assert event["permanent"] is True
    assert "projects/earth-demo/operations/A: Permission" in event["error"]


def test_the_confirmation_keeps_the_outcomes_of_other_operations(emulator: Emulator) -> None:
    name = emulator.service.add("a")
    emulator.service.cancel(name)
    outcomes = [{"name": "projects/earth-demo/operations/GONE", "outcome": "not found"}, {"name": name, "outcome": "?"}]
    trigger = EarthEngineCancelOperationsTrigger(operation_names=[name], outcomes=outcomes, **HOOK)

    event = asyncio.run(event_of(restarted(trigger)))

    assert event["result"][0] == outcomes[0]
    assert event["result"][1]["outcome"] == "CANCELLED"


async def kill(trigger: Any, *, times: int = 1) -> None:
    """Call `on_kill` as Airflow 3.3 does, which cancels it again while it runs."""
    killing = asyncio.create_task(trigger.on_kill())
    for _ in range(times - 1):
        await asyncio.sleep(0.05)
        killing.cancel()
    await killing


@pytest.mark.parametrize(("cancel_on_kill", "state"), [(True, "CANCELLED"), (False, "RUNNING")])
def test_on_kill_cancels_only_with_cancel_on_kill(emulator: Emulator, cancel_on_kill: bool, state: str) -> None:
    name = emulator.service.add("a")
    trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=cancel_on_kill, **HOOK)

    asyncio.run(kill(trigger))

    assert emulator.service.state(name) == state


def test_a_failed_cancel_is_repeated_once_earth_engine_is_back(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.earth_engine.CANCELLED_AGAIN_AFTER", (0.0, 0.1))
    name = emulator.service.add("a")
    emulator.service.fail("unavailable", times=6, path=f"{name}:cancel")  # As often as a request is tried.
    trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)

    asyncio.run(kill(trigger))

    assert emulator.service.state(name) == "CANCELLED"


def test_a_triggerer_that_cancels_on_kill_again_does_not_stop_the_cancel(emulator: Emulator) -> None:
    name = emulator.service.add("a")
    trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)

    asyncio.run(kill(trigger, times=3))

    assert emulator.service.state(name) == "CANCELLED"


@pytest.mark.skipif(not AIRFLOW_3 or airflow_version.startswith("3.0"), reason="Airflow is asked in another way")
@pytest.mark.parametrize(
    ("interval", "task_states", "state"),
    [
        (0.2, (None, None), "CANCELLED"),
        (0.2, ("deferred", "deferred"), "RUNNING"),
        (0.2, ("deferred", None), "CANCELLED"),
        (3600.0, (None, None), "CANCELLED"),  # The first check does not wait for the interval.
    ],
)
def test_a_trigger_asks_whether_its_task_is_still_deferred(
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
    task_states: tuple[str | None, str | None],
    state: str,
) -> None:
    """Airflow does not cancel the trigger of a task that is cleared while its DAG is paused."""
    monkeypatch.setattr("airflow_ee_provider.triggers.base.STATE_INTERVAL", interval)
    names = [emulator.service.add("a"), emulator.service.add("b")]
    task = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    at_the_first_check, later = task_states
    supervisor = answer_as_supervisor(monkeypatch, task, at_the_first_check)

    async def wait_for_a_while() -> None:
        waiting = []
        for name in names:
            trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)
            trigger.task_instance = task  # type: ignore[assignment]
            waiting.append(asyncio.create_task(event_of(trigger)))
        until = time.monotonic() + (60 if state == "CANCELLED" else 2.5)
        while time.monotonic() < until and {emulator.service.state(name) for name in names} != {"CANCELLED"}:
            await asyncio.sleep(0.1)
            if supervisor.asked["GetTaskStates"]:
                supervisor.state = later
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(wait_for_a_while())

    assert [emulator.service.state(name) for name in names] == [state, state]


@pytest.mark.skipif(not AIRFLOW_3 or airflow_version.startswith("3.0"), reason="Airflow is asked in another way")
def test_a_kill_uses_the_session_that_the_wait_has_opened(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    async def counted() -> Any:
        opened.append(await aiohttp_session())
        return opened[-1]

    monkeypatch.setattr(shared_client, "aiohttp_session", counted)
    name = emulator.service.add("a")
    task = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    answer_as_supervisor(monkeypatch, task, None)
    trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)
    trigger.task_instance = task  # type: ignore[assignment]

    async def killed() -> None:
        running = asyncio.create_task(event_of(trigger))
        while not emulator.service.requests("GET", name):  # noqa: ASYNC110 (the emulator has no event to wait for)
            await asyncio.sleep(0.05)
        running.cancel("a user acted")
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(killed())

    assert emulator.service.state(name) == "CANCELLED"
    assert [session.closed for session in opened] == [True]


def test_a_trigger_that_cannot_open_its_connection_reports_it(emulator: Emulator) -> None:
    name = emulator.service.add("a")
    trigger = EarthEngineOperationsTrigger(
        operation_names=[name], cancel_on_kill=True, **{**HOOK, "earth_engine_conn_id": "of_a_team"}
    )

    event = asyncio.run(event_of(trigger))

    assert "'of_a_team' is not defined" in event["error"]
    assert event["cannot_begin"]


AN_HOUR_AGO, IN_AN_HOUR = -3600.0, 3600.0


def latest_task_in_state(state: str | None) -> Any:
    """Set the state of the newest task instance in Airflow 2's database, and return the task instance."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        task = session.query(TaskInstance).order_by(TaskInstance.run_id.desc()).first()
        task.state = state
        session.commit()
        session.expunge_all()
    return task


@pytest.mark.parametrize(
    ("task_state", "timeout_in", "state"),
    [
        ("deferred", None, "RUNNING"),
        (None, None, "CANCELLED"),
        ("failed", None, "CANCELLED"),
        # The sensor does not cancel when it times out: no user has acted.
        ("scheduled", AN_HOUR_AGO, "RUNNING"),
        ("queued", IN_AN_HOUR, "CANCELLED"),
        # It has timed out by the clock of this machine; the clock of the worker, which set the timeout, differs.
        ("failed", AN_HOUR_AGO, "CANCELLED"),
        ("success", AN_HOUR_AGO, "CANCELLED"),
        (None, AN_HOUR_AGO, "CANCELLED"),
        ("deferred", AN_HOUR_AGO, "RUNNING"),
    ],
)
def test_the_tasks_state_distinguishes_a_user_from_a_restart_a_timeout_and_another_triggerer(
    *,
    emulator: Emulator,
    run_dag: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    task_state: str | None,
    timeout_in: float | None,
    state: str,
) -> None:
    if airflow_version.startswith("3.0"):
        pytest.skip("Airflow 3.0 is asked in another way: `make matrix` and the model have it")
    name = emulator.service.add("a")
    if AIRFLOW_3:
        task = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
        answer_as_supervisor(monkeypatch, task, task_state)
    else:
        run_dag("wait_in_worker", emulator.service.add("b", run_seconds=0))
        task = latest_task_in_state(task_state)

    async def cancelled_by_airflow() -> None:
        timeout_at = None if timeout_in is None else time.time() + timeout_in
        trigger = EarthEngineOperationsTrigger(
            operation_names=[name], cancel_on_kill=True, timeout_at=timeout_at, **HOOK
        )
        trigger.task_instance = task
        running = asyncio.create_task(event_of(trigger))
        await asyncio.sleep(0.5)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        if calls_triggers_on_kill():  # Also where another triggerer has taken the trigger over.
            await trigger.on_kill()

    asyncio.run(cancelled_by_airflow())

    assert emulator.service.state(name) == state


@pytest.mark.skipif(not AIRFLOW_3 or airflow_version.startswith("3.0"), reason="these are asked in another way")
@pytest.mark.parametrize(
    ("task_state", "resumed_by", "state"),
    [("scheduled", 7, "RUNNING"), ("running", 7, "RUNNING"), ("scheduled", 6, "CANCELLED"), ("failed", 7, "CANCELLED")],
)
def test_a_late_triggerer_cancels_nothing_of_a_task_that_another_one_has_resumed(
    *, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, task_state: str, resumed_by: int, state: str
) -> None:
    name = emulator.service.add("a")
    task = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    answer_as_supervisor(monkeypatch, task, task_state).xcoms[RESUMED_KEY] = (resumed_by, 0)

    async def taken_over() -> None:
        trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)
        trigger.task_instance, trigger.trigger_id = task, 7
        await kill(trigger)

    asyncio.run(taken_over())

    assert emulator.service.state(name) == state


@pytest.mark.skipif(not AIRFLOW_3 or airflow_version.startswith("3.0"), reason="these are asked in another way")
@pytest.mark.parametrize(("run_seconds", "is_noted"), [(0.2, False), (3600, True)])
def test_a_trigger_records_that_it_resumes_a_task_whose_operations_still_run(
    *, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, run_seconds: float, is_noted: bool
) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.0)
    names = [emulator.service.add("a", run_seconds=run_seconds), emulator.service.add("b", run_seconds=0.5)]
    task = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    supervisor = answer_as_supervisor(monkeypatch, task, "deferred")
    trigger = EarthEngineQueueTrigger(
        operation_names=names, cancel_on_kill=True, unfinished=int(is_noted), room_timeout=None, since=None, **HOOK
    )
    trigger.task_instance, trigger.trigger_id = task, 7

    asyncio.run(event_of(trigger))

    assert bool(supervisor.asked[RESUMED_KEY]) == is_noted


@pytest.mark.skipif(not calls_triggers_on_kill(), reason="before 3.3, Airflow says nothing that could be believed")
@pytest.mark.parametrize(("errors", "state"), [(1, "RUNNING"), (9, "CANCELLED")])
def test_a_trigger_asks_airflow_again_after_an_error_before_it_cancels(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, errors: int, state: str
) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.earth_engine.ASKED_AGAIN_AFTER", (0.0, 0.1, 0.1))
    name = emulator.service.add("a")
    trigger = EarthEngineOperationsTrigger(operation_names=[name], cancel_on_kill=True, **HOOK)
    trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    answer_as_supervisor(monkeypatch, trigger.task_instance, "deferred", errors=errors)

    asyncio.run(trigger.on_kill())

    assert emulator.service.state(name) == state


def test_a_task_is_not_resumed_before_airflow_knows_that_its_process_has_ended(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.6)
    name = emulator.service.add("a")
    emulator.service.finish(name)
    trigger = EarthEngineOperationsTrigger(operation_names=[name], **HOOK)
    trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    began = time.monotonic()

    event = asyncio.run(event_of(trigger))

    assert event["result"][0]["state"] == "SUCCEEDED"
    assert time.monotonic() - began >= 0.6


def test_a_cancel_is_reported_after_the_same_delay(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.6)
    name = emulator.service.add("a", cancel_seconds=0)
    emulator.service.cancel(name)
    trigger = EarthEngineCancelOperationsTrigger(operation_names=[name], outcomes=[{"name": name}], **HOOK)
    trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
    began = time.monotonic()

    event = asyncio.run(event_of(trigger))

    assert event["result"][0]["outcome"] == "CANCELLED"
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("is_of_a_task", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.9])
def test_a_cancelled_trigger_raises_airflows_own_message(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, seconds: float, *, is_of_a_task: bool
) -> None:
    """Airflow 3.3 knows from the message that a user has acted."""
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.6)
    name = emulator.service.add("a")
    trigger = EarthEngineOperationsTrigger(operation_names=[name], **HOOK)
    if is_of_a_task:
        trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)

    heard: list[asyncio.CancelledError] = []

    async def as_the_triggerer_does() -> None:
        try:
            await event_of(trigger)
        except asyncio.CancelledError as error:
            heard.append(error)
            raise

    async def cancelled() -> None:
        running = asyncio.create_task(as_the_triggerer_does())
        await asyncio.sleep(seconds)
        running.cancel("a user acted")
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())

    assert [error.args for error in heard] == [("a user acted",)]
