"""Triggers the event of each cell of the lifecycle matrix, and checks the states of the cell's operations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from answers import check_who_answered
from changed_file import change_files
from expectations import CANCEL_WITHIN, judge, requested
from matrix_cells import PROJECT, Cell
from outages import OUTAGES

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outages import Outage

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

#: Two cores cannot start more runs at once and still be on time.
BATCH = 8

MAPPED = 20


def start(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """Start cells, once each DAG has another run that holds an operation."""
    with_bystander = [cell for cell in cells if cell.has_bystander]
    for cell in with_bystander:
        cell.start_bystander(airflow, emulator)
    for cell in with_bystander:
        cell.wait_for_bystander(airflow, emulator)
    for cell in cells:
        cell.start(airflow, emulator)


def let_happen(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """Start cells in parallel, a few at a time, and trigger the event of each."""
    for first in range(0, len(cells), BATCH):
        batch = cells[first : first + BATCH]
        start(batch, airflow, emulator)
        for cell in batch:
            cell.wait_until_held(airflow, emulator)
        time.sleep(3)  # The event must happen while operations are held, not at their start.
        for cell in batch:
            cell.act(airflow)
        print(f"  {first + len(batch)} of {len(cells)} cells have happened", flush=True)


def without_something(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator, outage: Outage) -> None:
    """Cause an outage while cells hold their operations."""
    start(cells, airflow, emulator)
    for cell in cells:
        cell.wait_until_held(airflow, emulator)
    time.sleep(3)
    outage.happen(cells, airflow, emulator)


def mapped_group(airflow: StandaloneAirflow, emulator: Emulator, patience: float = 0.0) -> Cell:
    """Mark a run with twenty deferred, mapped sensors failed; measure the slowest cancel."""
    cell = Cell("mapped", "run_marked_failed")
    cell.operations = [emulator.service.add(cell.dag_id, PROJECT) for _ in range(MAPPED)]
    cell.run_id = airflow.trigger(cell.dag_id, operation_names=cell.operations)
    instances = f"/dags/{cell.dag_id}/dagRuns/{cell.run_id}/taskInstances"

    def all_deferred() -> bool:
        states = [task["state"] for task in airflow.call("GET", instances)["task_instances"]]
        looked = all(emulator.service.operations[name].reads >= 2 for name in cell.operations)
        return states.count("deferred") == MAPPED and looked

    wait_until(all_deferred, timeout=240, what="the mapped tasks to be deferred")
    time.sleep(3)
    cell.happened = time.time()
    airflow.mark_run(cell.dag_id, cell.run_id, "failed")
    states = {"": 0}

    def all_cancelled() -> bool:
        found = [emulator.service.state(name) for name in cell.operations]
        states.clear()
        states.update({state: found.count(state) for state in found})
        return states.get("CANCELLED") == MAPPED

    try:
        wait_until(all_cancelled, timeout=CANCEL_WITHIN + patience, what="all to be cancelled")
    except TimeoutError:
        cell.observed = f"{states} after {CANCEL_WITHIN + patience:g} s"
        return cell
    cell.kept = True
    cell.observed = f"{max(requested(emulator, name) or 0.0 for name in cell.operations) - cell.happened:.1f} s"
    return cell


def changed_files(airflow: StandaloneAirflow, emulator: Emulator) -> Iterator[Cell]:
    """Change DAGs' files while their runs are active, in parallel."""
    for name, (kept, observed) in change_files(airflow, emulator).items():
        cell = Cell("changed", name, kept=kept, observed=observed)
        print(f"  {'kept  ' if cell.kept else 'BROKEN'} {name}: {cell.observed}", flush=True)
        yield cell


def run_cells(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator, patience: float = 0.0) -> None:
    """Trigger the event of each cell, and check the states of its operations.

    :param patience: seconds allowed beyond what is promised: a test is no measurement.
    """
    airflow.wait_for_dags("janitor", *(cell.dag_id for cell in cells))
    let_happen([cell for cell in cells if cell.event not in OUTAGES], airflow, emulator)
    # The other cells' operations need a triggerer, so they are judged before its outage.
    for outage in (None, *dict.fromkeys(OUTAGES.values())):
        group = [cell for cell in cells if OUTAGES.get(cell.event) is outage]
        if outage and group:
            without_something(group, airflow, emulator, outage)
        for cell in group:
            judge(cell, airflow, emulator, patience)
            verdict = "kept  " if cell.kept else "BROKEN"
            print(f"  {verdict} {cell.event:<26} {cell.holder:<20} {cell.observed}", flush=True)
    check_who_answered(cells, airflow.home)
