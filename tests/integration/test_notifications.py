"""The notifier by itself: what it finds in a callback's context, and that it never raises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.errors import PermissionDeniedError
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.records import OPERATIONS_KEY, operations_of_task, record_operations, resume_operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator


class TaskInstance:
    """XComs of one task instance, as a callback's context has them."""

    try_number, max_tries = 1, 0

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, key: str, task_ids: Any = None) -> Any:
        return self.xcoms.get(key) if task_ids is None else [self.xcoms.get(key), None]


class Store(dict[str, Any]):
    """What a task's `task_state_store` can do."""

    set = dict.__setitem__


class Dag:
    task_ids = ("a", "b")


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    return earth_engine_emulator


@pytest.fixture(params=["sync", "async"])
def notify(request: pytest.FixtureRequest) -> Callable[..., None]:
    def notify(context: Any, **kwargs: Any) -> None:
        notifier = EarthEngineCancelOperationsNotifier(poll_interval=0.1, **kwargs)
        if request.param == "sync":
            notifier.notify(context)
        else:
            asyncio.run(notifier.async_notify(context))

    return notify


@pytest.mark.parametrize("context", [{}, {"reason": "timed_out", "dag": Dag()}], ids=["task", "run"])
def test_without_names_it_cancels_what_was_recorded(
    emulator: Emulator, notify: Callable[..., None], context: dict[str, Any]
) -> None:
    names = [emulator.service.add("x") for _ in range(2)]
    context = {**context, "ti": TaskInstance()}
    for name in names:
        record_operations(context, name)

    notify(context)

    assert [emulator.service.state(name) for name in names] == ["CANCELLED"] * 2


def test_given_names_come_before_what_was_recorded(emulator: Emulator, notify: Callable[..., None]) -> None:
    given, recorded = emulator.service.add("x"), emulator.service.add("x")
    context: Any = {"ti": TaskInstance()}
    record_operations(context, recorded)

    notify(context, operation_names=[given])

    assert emulator.service.state(given) == "CANCELLED"
    assert emulator.service.state(recorded) == "RUNNING"


@pytest.mark.parametrize(
    ("context", "names"),
    [
        ({}, None),
        ({"ti": TaskInstance()}, None),
        ({"reason": "x", "ti": TaskInstance()}, None),
        ({}, "no name"),
        ({}, "projects/demo/operations/UNKNOWN"),
    ],
    ids=["deadline", "nothing recorded", "no DAG", "no name", "unknown"],
)
def test_it_never_hides_the_error_that_it_was_called_for(
    emulator: Emulator, notify: Callable[..., None], context: Any, names: Any
) -> None:
    notify(context, operation_names=names)

    assert not emulator.service.operations


def later_try(*, tries_before: int, max_tries: int, left: list[str]) -> Any:
    """Return the context of a task with one retry that runs again; ``left`` is what its last try recorded."""

    class Task:
        retries = 1

    ti = TaskInstance()
    ti.try_number, ti.max_tries = tries_before + 1, max_tries
    return {"ti": ti, "task": Task(), "task_state_store": Store({OPERATIONS_KEY: left})}


RETRY, CLEARED = {"tries_before": 1, "max_tries": 1}, {"tries_before": 1, "max_tries": 2}


@pytest.mark.parametrize(("how", "resumed", "state"), [(RETRY, True, "RUNNING"), (CLEARED, False, "CANCELLED")])
def test_the_next_try_reattaches_after_a_crash_and_cancels_after_a_clear(
    emulator: Emulator, how: dict[str, int], resumed: bool, state: str
) -> None:
    name = emulator.service.add("x")
    context = later_try(**how, left=[name])

    operations = resume_operations(context, EarthEngineHook())

    assert operations == ([name] if resumed else [])
    assert operations_of_task(context) == operations
    assert emulator.service.state(name) == state


def test_the_next_try_does_as_it_is_told(emulator: Emulator) -> None:
    name = emulator.service.add("x")
    hook = EarthEngineHook()

    assert resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="ignore") == []
    assert resume_operations(later_try(**CLEARED, left=[name]), hook, on_clear="reattach") == [name]
    assert emulator.service.state(name) == "RUNNING"
    assert resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="cancel") == []
    assert emulator.service.state(name) == "CANCELLED"
    with pytest.raises(ValueError, match="'reattach', 'cancel' or 'ignore'"):
        resume_operations(later_try(**RETRY, left=[name]), hook, on_retry="restart")


def test_the_next_try_does_not_go_on_with_what_failed_or_is_forgotten(emulator: Emulator) -> None:
    left = [emulator.service.add("x", run_seconds=0, outcome="FAILED"), "projects/demo/operations/FORGOTTEN"]

    assert resume_operations(later_try(**RETRY, left=left), EarthEngineHook()) == []


def test_nothing_new_is_started_beside_what_could_not_be_cancelled(emulator: Emulator) -> None:
    name = emulator.service.add("x")
    emulator.service.fail("permission_denied", times=None, path="*:cancel")

    with pytest.raises(PermissionDeniedError, match=name):
        resume_operations(later_try(**CLEARED, left=[name]), EarthEngineHook())


@pytest.mark.usefixtures("airflow_database")
def test_a_missing_connection_is_logged_and_not_raised(emulator: Emulator, notify: Callable[..., None]) -> None:
    notify({}, operation_names=emulator.service.add("x"), earth_engine_conn_id="mistyped")


def test_a_record_grows_and_refuses_what_is_no_name() -> None:
    context: Any = {"ti": TaskInstance()}

    record_operations(context, "projects/p/operations/A")
    recorded = record_operations(context, ["projects/p/operations/B", "projects/p/operations/A"])

    assert recorded == operations_of_task(context) == ["projects/p/operations/A", "projects/p/operations/B"]
    with pytest.raises(ValueError, match="not the name of an Earth Engine operation"):
        record_operations(context, "projects/p/operations/A:cancel")
