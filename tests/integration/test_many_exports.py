"""Many exports from one task: what a try records, and what the next try finds."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowException
from instances import Store, TaskInstance
from supervised import answer_as_supervisor

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.protocol.starting import Export
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.tracking.record import STARTED_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

MANY = 300


class Tiles(ExportingOperator):
    """Start ``count`` exports."""

    def __init__(self, count: int = MANY, **kwargs: Any) -> None:
        super().__init__(task_id="a", wait_for_completion=False, **kwargs)
        self.count = count

    def execute(self, context: Any) -> Any:
        destination = {"cloudStorageDestination": {"bucket": "b"}}
        bodies = [
            {"description": f"tile-{n}", "expression": {"result": "0"}, "fileExportOptions": destination}
            for n in range(self.count)
        ]
        return self.start_and_wait(context, lambda _: [Export("image", body) for body in bodies])


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600)
    return earth_engine_emulator.service


def context_of(store: Store, try_number: int) -> Any:
    """Return the context of a try: its XComs are new, and the store is not."""
    return {"ti": TaskInstance(try_number=try_number, max_tries=3), "dag_run": None, "task_state_store": store}


def test_a_retry_starts_only_the_missing_export_and_lists_the_others(service: Service) -> None:
    store = Store()
    Tiles(count=MANY - 1).execute(context_of(store, 1))
    del store[STARTED_KEY]  # The try died before it had started the last export.
    before = len(service.journal)

    operations = Tiles(count=MANY).execute(context_of(store, 2))

    paths = [entry["path"].rpartition("/")[2] for entry in service.journal[before:]]
    assert paths.count("image:export") == 1
    assert len(paths) <= 8, paths
    assert [operation["description"] for operation in operations] == [f"tile-{number}" for number in range(MANY)]
    assert len(service.operations) == MANY


def test_a_worker_whose_clock_is_an_hour_behind_finds_the_exports_of_the_last_try(service: Service) -> None:
    began = SimpleNamespace(start_date=datetime.now(timezone.utc) + timedelta(hours=1))
    first = Tiles(count=2).execute({"ti": TaskInstance(max_tries=3), "dag_run": began})
    service.clock.advance(timedelta(minutes=30).total_seconds())

    second = Tiles(count=2).execute({"ti": TaskInstance(try_number=2, max_tries=3), "dag_run": began})

    assert [operation["name"] for operation in second] == [operation["name"] for operation in first]
    assert len(service.operations) == 2


def test_the_bytes_written_grow_linearly_with_the_number_of_exports(service: Service) -> None:
    written: dict[int, int] = {}
    for count in (100, 300):
        ti = TaskInstance(run_id=f"run-{count}")
        sizes: list[int] = []

        def push(key: str, value: Any, ti: TaskInstance = ti, sizes: list[int] = sizes) -> None:
            sizes.append(len(json.dumps(value)))
            ti.xcoms[key] = value

        ti.xcom_push = push  # type: ignore[method-assign]
        Tiles(count=count).execute({"ti": ti, "dag_run": None})
        written[count] = sum(sizes)

    assert len(service.operations) == 400
    assert written[300] < 5 * written[100]


def test_each_try_returns_the_results_in_the_order_of_the_exports(service: Service) -> None:
    store = Store()
    Tiles().execute(context_of(store, 1))
    requests = len(service.requests("POST", "*:export"))

    operations = Tiles().execute(context_of(store, 2))

    assert [operation["description"] for operation in operations] == [f"tile-{number}" for number in range(MANY)]
    assert len(service.requests("POST", "*:export")) == requests


def test_a_refused_export_leaves_the_other_exports_to_the_next_try(service: Service) -> None:
    store = Store()
    service.fail("permission_denied", path="*:export", times=1)

    with pytest.raises(AirflowException, match="PERMISSION_DENIED"):
        Tiles(cancel_on_failure=False).execute(context_of(store, 1))

    running = [operation for operation in service.operations.values() if operation.cancel_requested is None]
    recorded = [name for part in store.values() if isinstance(part, dict) for name in part["operation_names"]]
    assert sorted(recorded) == sorted(operation.name for operation in running)


class Refusing(Store):
    """The store of a task that has a new id, or whose Airflow is unreachable.

    :param refused: Called at each attempt to store a value.
    """

    def __init__(self, refused: Callable[[], None]) -> None:
        super().__init__()
        self._refused = refused

    def set(self, key: str, value: Any) -> None:  # type: ignore[override]
        self._refused()
        raise AirflowException(f"API_SERVER_ERROR: {key} is refused: {type(value).__name__}")


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 refuses no record")
@pytest.mark.skipif(airflow_version.startswith("3.0"), reason="Airflow 3.0 is asked in another way")
@pytest.mark.parametrize(
    ("task_state", "errors", "states"),
    [
        ("restarting", 0, {"CANCELLED"}),  # A user has cleared it.
        ("failed", 0, {"CANCELLED"}),
        ("running", 0, {"RUNNING"}),  # The next try requests it with the same `requestId`.
        ("running", 9, {"RUNNING"}),
    ],
)
def test_an_unrecorded_operation_is_cancelled_if_a_user_has_ended_the_task(
    service: Service, monkeypatch: pytest.MonkeyPatch, task_state: str, errors: int, states: set[str]
) -> None:
    def refused() -> None:  # From now on, Airflow returns the task's new state.
        answer_as_supervisor(monkeypatch, context["ti"], task_state, errors=errors)

    task, context = Tiles(count=1), context_of(Refusing(refused), 1)
    answer_as_supervisor(monkeypatch, context["ti"], "running")
    task.pre_execute(context)

    with pytest.raises(AirflowException, match="is refused"):
        task.execute(context)

    assert {service.state(name) for name in service.operations} == states


@pytest.mark.skipif(not AIRFLOW_3, reason="on Airflow 2, `on_kill` cancels before `pre_execute`")
@pytest.mark.skipif(airflow_version.startswith("3.0"), reason="Airflow 3.0 is asked in another way")
@pytest.mark.parametrize(("task_state", "state"), [("failed", "CANCELLED"), ("running", "RUNNING")])
def test_a_next_try_that_is_killed_before_it_begins_cancels_the_last_trys_operations(
    service: Service, monkeypatch: pytest.MonkeyPatch, task_state: str, state: str
) -> None:
    store = Store()
    Tiles(count=1).execute(context_of(store, 1))  # Its worker is killed then.
    task, context = Tiles(count=1), context_of(store, 2)
    answer_as_supervisor(monkeypatch, context["ti"], task_state)

    task.on_kill()
    with pytest.raises(AirflowException, match="killed before it began"):
        task.pre_execute(context)

    assert [service.state(name) for name in service.operations] == [state]
