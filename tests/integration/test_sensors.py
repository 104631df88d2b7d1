"""The sensor in Airflow's own ``dag.test()``, against the emulator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from instances import TaskInstance

from airflow_ee_provider.lifecycle.owning_task import record_names
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

PLACES = ("worker", "triggerer")


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=1.5, cancel_seconds=0.3)
    return earth_engine_emulator


@pytest.mark.parametrize("place", PLACES)
def test_the_operations_are_returned_once_all_have_succeeded(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    names = [emulator.service.add("a"), emulator.service.add("b", run_seconds=0)]

    ran = run_dag(f"wait_in_{place}", *names)

    assert ran.state == "success"
    assert [operation["name"] for operation in ran.result] == names
    assert all(operation["state"] == "SUCCEEDED" for operation in ran.result)
    assert ran.result[0]["destination_uris"]
    assert ran.result[0]["batch_eecu_usage_seconds"] == pytest.approx(2.25, abs=0.1)
    assert ran.result[0]["end_time"] > ran.result[0]["start_time"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run_seconds", [0, 1], ids=["at once", "later"])
def test_a_failed_operation_fails_the_sensor_with_earth_engines_message(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str, run_seconds: float
) -> None:
    name = emulator.service.add("ndvi", outcome="FAILED", run_seconds=run_seconds, message="Too many pixels.")

    ran = run_dag(f"wait_in_{place}", emulator.service.add("other", run_seconds=3600), name)

    assert ran.state == "failed"
    assert re.search(rf"FAILED: (.+ \()?{name}\)?, code 3: Too many pixels", ran.log)
    assert "AirflowFailException" in ran.log


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run_seconds", [0, 1], ids=["at once", "later"])
def test_a_failed_operation_skips_a_soft_sensor(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str, run_seconds: float
) -> None:
    ran = run_dag(f"wait_softly_in_{place}", emulator.service.add("x", outcome="FAILED", run_seconds=run_seconds))

    assert ran.state == "skipped"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("dag_id", "other_state"),
    [("wait", "RUNNING"), ("wait_and_cancel_the_others", "CANCELLED"), ("wait_for_the_others", "SUCCEEDED")],
)
def test_parameters_decide_about_the_other_operations_when_one_fails(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str, dag_id: str, other_state: str
) -> None:
    failing = emulator.service.add("x", outcome="FAILED", run_seconds=1)
    other = emulator.service.add("y", run_seconds=4 if dag_id == "wait_for_the_others" else 3600)

    ran = run_dag(f"{dag_id}_in_{place}", failing, other)

    assert ran.state == "failed"
    assert "1 of the Earth Engine operations did not succeed" in ran.log
    assert emulator.service.state(other) == other_state
    if other_state == "CANCELLED":
        assert f"{other} (y): cancelled" in ran.log  # In the task's error as well.


def test_a_poking_sensor_notices_a_short_export_soon() -> None:
    """As in the triggerer, the first intervals are shorter than the default of 30 s."""
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names="x")
    rescheduled = EarthEngineOperationsSensor(task_id="b", operation_names="x", mode="reschedule")

    def interval(waited: float) -> float:
        return sensor._get_next_poke_interval(0.0, lambda: waited, 1)

    intervals = [interval(1.0), interval(100.0), interval(1000.0)]

    assert intervals == [5.0, 10.0, 30.0]
    assert rescheduled._get_next_poke_interval(0.0, lambda: 1.0, 1) == 30.0


def test_progress_is_logged_when_it_changes_and_not_at_every_poll(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    service = emulator.service
    name = service.add("ndvi", run_seconds=1e9, eecu_seconds=0)
    real = service.get

    def finish_at_the_sixth_poll(asked: str) -> dict[str, Any]:
        if service.operations[name].reads >= 5:
            service.finish(name)
        return real(asked)

    service.get = finish_at_the_sixth_poll  # type: ignore[method-assign]

    ran = run_dag("wait_in_worker", name)

    assert ran.state == "success"
    assert len(service.requests("GET", name)) == 6
    assert (
        1 <= len(re.findall(rf"RUNNING( \d+ %)?: .+ \({name}\)", ran.log)) <= 3
    )  # Airflow before 3.1 writes it at several places.
    assert re.search(rf"SUCCEEDED: .+ \({name}\)", ran.log)


@pytest.mark.parametrize(
    ("dag_id", "state", "operation_state"),
    [
        ("wait_impatiently", "failed", "RUNNING"),
        ("wait_impatiently_and_cancel", "failed", "CANCELLED"),
        ("wait_impatiently_softly_and_cancel", "skipped", "CANCELLED"),
    ],
)
def test_a_sensor_that_times_out_cancels_only_with_cancel_on_timeout(
    emulator: Emulator, run_dag: Callable[..., Ran], dag_id: str, state: str, operation_state: str
) -> None:
    name = emulator.service.add("ndvi", run_seconds=3600)

    ran = run_dag(f"{dag_id}_in_worker", name)

    assert ran.state == state
    assert emulator.service.state(name) == operation_state


@pytest.mark.parametrize("place", PLACES)
def test_an_operation_that_exceeds_max_eecu_seconds_is_cancelled(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    name = emulator.service.add("runaway", run_seconds=3600, eecu_seconds=2)

    ran = run_dag(f"wait_frugally_in_{place}", name)

    assert ran.state == "failed"
    assert emulator.service.state(name) == "CANCELLED"
    assert "1 are allowed (max_eecu_seconds)" in ran.log
    assert "AirflowFailException" in ran.log


def test_a_sensor_without_operation_names_is_skipped(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    assert run_dag("wait_in_worker").state == "skipped"
    assert not emulator.service.journal


def test_a_tasks_callback_cancels_the_operations_that_the_task_has_recorded(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    service = emulator.service
    failed, running = service.add("a", outcome="FAILED", run_seconds=0), service.add("b", run_seconds=3600)

    ran = run_dag("wait_with_callback_in_worker", failed, running)

    assert ran.state == "failed"
    assert service.state(running) == "CANCELLED"
    assert not service.requests("POST", f"{failed}:cancel")


def test_a_kill_before_pre_execute_cancels_in_pre_execute(emulator: Emulator) -> None:
    """A rescheduled sensor keeps its operation from one process to the next; a kill can hit the start of a process."""
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)
    name = emulator.service.add("x")
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names=[name], cancel_on_kill=True, mode="reschedule")

    sensor.on_kill()
    with suppress(AirflowException):
        sensor.pre_execute({"ti": TaskInstance()})

    assert emulator.service.state(name) == "CANCELLED"


class LazyNames(Sequence[str]):
    """Airflow's sequence of a mapped upstream task's output: each access sends a request to Airflow."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.is_killing = names, False

    def __getitem__(self, index: Any) -> Any:
        assert not self.is_killing
        return self.names[index]

    def __len__(self) -> int:
        assert not self.is_killing
        return len(self.names)


def test_a_kill_does_not_read_lazy_operation_names(emulator: Emulator) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)
    lazy = LazyNames([emulator.service.add("x") for _ in range(3)])
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names=lazy, cancel_on_kill=True)
    record_names(sensor, {"ti": TaskInstance()}, sensor.ownership)

    lazy.is_killing = True
    sensor.on_kill()

    assert [emulator.service.state(name) for name in lazy.names] == ["CANCELLED"] * 3
