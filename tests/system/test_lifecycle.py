"""However a task or a run ends, its operation is cancelled, and Earth Engine says so; or it is left alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pytest
from cells import PROJECT

from airflow_ee_provider.standalone import seconds_since_epoch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

T = TypeVar("T")

HELD = {"running": "running", "deferred": "deferred"}


@dataclass
class Cell:
    """A DAG run whose task holds an operation, and what is about to happen to it."""

    holder: str
    event: str
    run_id: str
    operations: list[str]
    happened: float = 0.0

    @property
    def dag_id(self) -> str:
        return f"{self.holder}_{self.event}"

    @property
    def held(self) -> str:
        """The operation that must not go on: the last one."""
        return self.operations[-1]


def batched(items: list[T], size: int) -> list[list[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _task_started(airflow: StandaloneAirflow, cell: Cell) -> float:
    return seconds_since_epoch(airflow.task(cell.dag_id, cell.run_id, "hold")["start_date"])


def _run_started(airflow: StandaloneAirflow, cell: Cell) -> float:
    return seconds_since_epoch(airflow.run(cell.dag_id, cell.run_id)["start_date"])


def _now(action: Callable[[StandaloneAirflow, Cell], None]) -> Callable[[StandaloneAirflow, Cell], float]:
    def act(airflow: StandaloneAirflow, cell: Cell) -> float:
        now = time.time()
        action(airflow, cell)
        return now

    return act


#: What is done to a cell once its operation is held; returns when it happens, in seconds since the epoch.
EVENTS: dict[str, Callable[[StandaloneAirflow, Cell], float]] = {
    "cleared": _now(lambda a, c: a.clear(c.dag_id, c.run_id, "hold")),
    "marked_failed": _now(lambda a, c: a.mark_task(c.dag_id, c.run_id, "hold", "failed")),
    "run_marked_failed": _now(lambda a, c: a.mark_run(c.dag_id, c.run_id, "failed")),
    "dagrun_timeout": lambda a, c: _run_started(a, c) + 20,
    "execution_timeout": lambda a, c: _task_started(a, c) + 10,
    "sensor_timeout": lambda a, c: _task_started(a, c) + 10,
}

#: Two operations each, the first of which fails after a while: the task fails, and its callback cancels the other.
CALLBACKS = ("task_callback", "dag_callback")


@pytest.fixture(scope="module")
def cells(airflow: StandaloneAirflow, emulator: Emulator) -> Iterator[dict[str, Cell]]:
    """Start all cells side by side, let everything happen, and wait for what has to follow."""
    kinds = [(holder, event) for event in (*EVENTS, *CALLBACKS) for holder in HELD]
    airflow.wait_for_dags(*(f"{holder}_{event}" for holder, event in kinds))
    started: list[Cell] = []
    for kind in batched(kinds, 4):  # Two cores cannot start all at once.
        batch = [_start(airflow, emulator, *cell) for cell in kind]
        for cell in batch:
            airflow.wait_for_task(cell.dag_id, cell.run_id, "hold", HELD[cell.holder], timeout=120)
        started += batch
        time.sleep(3)  # The operations are to be held for a while, not caught at their start.
        for cell in batch:
            if cell.event in EVENTS:
                cell.happened = EVENTS[cell.event](airflow, cell)
    yield {cell.dag_id: cell for cell in started}
    print("\n\nSeconds from what happened to the cancel request, and to Earth Engine's confirmation:")
    for cell in started:
        requested, confirmed = _requested(emulator, cell.held), emulator.service.operations[cell.held].ended()
        seconds = f"{requested - cell.happened:6.1f} {confirmed - cell.happened:6.1f}" if requested else "   never"
        print(f"  {cell.event:<18} {cell.holder:<9} {seconds}")


def _start(airflow: StandaloneAirflow, emulator: Emulator, holder: str, event: str) -> Cell:
    operations = [emulator.service.add(event, PROJECT)]
    happened = 0.0
    if event in CALLBACKS:
        failing = emulator.service.add("fails", PROJECT, outcome="FAILED", run_seconds=40.0)
        happened = emulator.service.operations[failing].ended()
        operations.insert(0, failing)
    return Cell(holder, event, airflow.trigger(f"{holder}_{event}", operation_names=operations), operations, happened)


def _requested(emulator: Emulator, name: str) -> float | None:
    requests = emulator.service.requests("POST", f"{name}:cancel")
    return requests[0]["time"] if requests else None


@pytest.mark.parametrize("holder", HELD)
@pytest.mark.parametrize("event", [*EVENTS, *CALLBACKS])
def test_an_operation_is_cancelled_and_confirmed_when_its_task_or_run_ends(
    cells: dict[str, Cell], emulator: Emulator, holder: str, event: str
) -> None:
    cell = cells[f"{holder}_{event}"]

    wait_until(lambda: _requested(emulator, cell.held), timeout=120, what=f"a cancel request for {cell.dag_id}")
    wait_until(lambda: emulator.service.state(cell.held) == "CANCELLED", timeout=30, what="the confirmation")

    cancels = emulator.service.requests("POST", f"{cell.held}:cancel")
    assert all(request["status"] == 200 for request in cancels)
    assert cancels[0]["time"] >= cell.happened, "it was cancelled before anything had happened"


@pytest.mark.parametrize("holder", HELD)
def test_a_sensor_that_was_not_told_to_cancel_leaves_its_operation_alone(
    airflow: StandaloneAirflow, emulator: Emulator, holder: str
) -> None:
    cell = _start(airflow, emulator, holder, "left_alone")
    airflow.wait_for_task(cell.dag_id, cell.run_id, "hold", HELD[holder])

    airflow.mark_task(cell.dag_id, cell.run_id, "hold", "failed")
    time.sleep(15)

    assert emulator.service.state(cell.held) == "RUNNING"
    assert _requested(emulator, cell.held) is None


@pytest.mark.usefixtures("cells")  # Their operations need the triggerer, so they come first.
def test_a_restart_of_the_triggerer_cancels_nothing_and_the_completion_is_noticed(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    dag_id = "deferred_cleared"  # A sensor that does cancel, when a user acts.
    operation = emulator.service.add("restart", PROJECT)
    run_id = airflow.trigger(dag_id, operation_names=[operation])
    airflow.wait_for_task(dag_id, run_id, "hold", "deferred")
    wait_until(lambda: emulator.service.requests("GET", operation), timeout=30, what="the trigger to poll")
    time.sleep(3)

    airflow.kill("triggerer")
    time.sleep(3)
    assert emulator.service.state(operation) == "RUNNING"
    airflow.start("triggerer")
    seen = len(emulator.service.requests("GET", operation))
    wait_until(
        lambda: len(emulator.service.requests("GET", operation)) > seen + 1, timeout=120, what="the polling to go on"
    )
    emulator.service.finish(operation)

    airflow.wait_for_task(dag_id, run_id, "hold", "success", timeout=60)
    assert emulator.service.state(operation) == "SUCCEEDED"
    assert _requested(emulator, operation) is None
