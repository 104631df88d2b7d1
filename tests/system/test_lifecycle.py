"""A representative part of the lifecycle matrix; ``make matrix`` runs all of it, on three Airflow versions."""

from __future__ import annotations

import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest
from expectations import requested
from matrix_cells import PROJECT, Cell
from running import mapped_group, run_cells

from dev.airflow_api import PATIENCE, wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

#: Each rule once, in a worker, in the triggerer, or for the holder that it is about; each kind of holder at least once.
REPRESENTATIVE = [
    ("sensor_running", "task_cleared"),
    ("sensor_running", "execution_timeout"),
    ("sensor_deferred", "dagrun_timeout"),
    ("sensor_deferred", "task_callback"),
    ("sensor_deferred", "deadline"),
    ("sensor_rescheduled", "task_cleared"),
    ("export_deferred", "task_cleared"),
    ("cancel_running", "task_cleared"),
    ("cancel_deferred", "trigger_timeout"),
    ("starting", "worker_sigkill"),
    ("started", "worker_callback"),
    ("export_running", "task_marked_failed"),
    ("export_deferred", "execution_timeout"),
    ("export_deferred", "exception"),
    ("export_deferred", "run_deleted"),
    ("sensor_deferred", "triggerer_sigterm"),
    ("sensor_deferred", "cleared_without_triggerer"),
    ("torn_down", "failed_without_triggerer"),
]
#: The same rules with other holders, and cells that take minutes.
NIGHTLY = [
    ("sensor_running", "run_marked_failed"),
    ("sensor_running", "dag_callback"),
    ("sensor_deferred", "task_marked_failed"),
    ("sensor_deferred", "trigger_timeout"),
    ("export_deferred", "worker_stood_still"),
    ("started", "dag_callback"),
]
#: Events that concern a task's own operations alone: another run of the DAG is checked in the other cells, and in all
#: cells by `make matrix`.
ABOUT_ONE_TASK = (
    "task_cleared",
    "task_marked_failed",
    "execution_timeout",
    "trigger_timeout",
    "dagrun_timeout",
    "exception",
)


@pytest.fixture(scope="session")
def cells(
    request: pytest.FixtureRequest, airflow: StandaloneAirflow, emulator: Emulator, begun: dict[str, Future[Any]]
) -> dict[str, Cell]:
    """Start the selected cells in parallel, trigger their events, and check the states of their operations."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    selected = [(how["holder"], how["event"]) for how in parameters if {"holder", "event"} <= how.keys()]
    made = [Cell(holder, event, has_bystander=event not in ABOUT_ONE_TASK) for holder, event in selected]
    wait(begun.values())  # A triggerer's outage must not affect these runs.
    print("\n\nSeconds from what happened to the cancel request:")
    run_cells(made, airflow, emulator, patience=PATIENCE)
    return {cell.dag_id: cell for cell in made}


@pytest.mark.parametrize(
    ("holder", "event"), [*REPRESENTATIVE, *(pytest.param(*cell, marks=pytest.mark.nightly) for cell in NIGHTLY)]
)
def test_operation_ends_as_promised(cells: dict[str, Cell], holder: str, event: str) -> None:
    cell = cells[f"{holder}__{event}"]

    assert cell.kept, cell.observed


@pytest.mark.usefixtures("cells")
def test_twenty_mapped_sensors_are_cancelled_with_their_run(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    cell = mapped_group(airflow, emulator, patience=PATIENCE)

    assert cell.kept, cell.observed


def test_kill_cancels_the_operations_that_a_mapped_upstream_task_has_returned(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    dag_id, service = "lazy__task_marked_failed", emulator.service
    names = [service.add(dag_id, PROJECT) for _ in range(3)]
    run_id = airflow.trigger(dag_id, operation_names=names)
    wait_until(lambda: all(service.operations[name].reads > 1 for name in names), what="the polls")

    airflow.mark_task(dag_id, run_id, "hold", "failed")

    wait_until(lambda: {service.state(name) for name in names} == {"CANCELLED"}, what="all three to be cancelled")


@pytest.mark.parametrize("holder", ["sensor_running", "sensor_deferred"])
def test_sensor_without_cancel_options_leaves_its_operation_running(
    airflow: StandaloneAirflow, emulator: Emulator, holder: str
) -> None:
    cell = Cell(holder, "left_alone", operations=[emulator.service.add("left_alone", PROJECT)])
    cell.run_id = airflow.trigger(cell.dag_id, operation_names=cell.operations)
    cell.wait_until_held(airflow, emulator)

    airflow.mark_task(cell.dag_id, cell.run_id, "hold", "failed")
    time.sleep(15)

    assert emulator.service.state(cell.name) == "RUNNING"
    assert requested(emulator, cell.name) is None
