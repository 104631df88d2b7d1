"""Checks whether the promise of each cell of the lifecycle matrix was kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from events import COLLECTED_WITHIN, EVENTS, OR_COLLECTOR, RESUMED

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from matrix_cells import Cell

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

#: Seconds in which a cancel is promised; a lost worker is detected only by its missing heartbeats.
CANCEL_WITHIN, LOST_WORKER_WITHIN = 45.0, 120.0


def requested(emulator: Emulator, name: str) -> float | None:
    """Return the time of an operation's first cancel request."""
    requests = emulator.service.requests("POST", f"{name}:cancel")
    return requests[0]["time"] if requests else None


def judge(cell: Cell, airflow: StandaloneAirflow, emulator: Emulator, patience: float = 0.0) -> None:
    """Determine the state of a cell's operation, and whether the promise was kept.

    :param patience: seconds allowed beyond what is promised, for a machine that is busy with other tests.
    """
    if EVENTS[cell.event].promise(cell.holder) == RESUMED:
        _judge_resumed(cell, airflow, emulator, patience)
    else:
        _judge_cancelled(cell, emulator, patience)
    if harmed := cell.harmed(emulator):
        cell.kept, cell.observed = False, f"{len(harmed)} neighbours cancelled"
    cell.judged = time.time()


def _judge_cancelled(cell: Cell, emulator: Emulator, patience: float) -> None:
    event = EVENTS[cell.event]
    asleep = cell.holder == "sensor_rescheduled" and event.who == OR_COLLECTOR
    within = LOST_WORKER_WITHIN if cell.event.startswith("worker") else COLLECTED_WITHIN if asleep else event.within
    limit = within + patience
    left = max(1.0, cell.happened + limit - time.time())
    try:
        wait_until(lambda: emulator.service.state(cell.name) == "CANCELLED", timeout=left, what="the cancel")
    except TimeoutError:
        cell.observed = f"{emulator.service.state(cell.name)} after {limit:g} s"
        return
    if EVENTS[cell.event].while_working and (left := [n for n in cell.started(emulator) if _runs(emulator, n)]):
        cell.observed = f"{len(left)} left running"
        return
    asked = (requested(emulator, cell.name) or 0.0) - cell.happened
    confirmed = emulator.service.operations[cell.name].ended() - cell.happened
    asked_before = cell.holder.startswith("cancel") and asked < 0
    # An event's time is known to the second only; a cancel that came well before it had another cause.
    cell.kept = confirmed <= limit and (asked_before or asked > -1)
    cell.observed = f"confirmed {max(0.0, confirmed):.0f} s" if asked_before else f"{max(0.0, asked):.1f} s"


def _runs(emulator: Emulator, name: str) -> bool:
    return emulator.service.state(name) not in ("CANCELLED", "FAILED", "SUCCEEDED")


def _judge_resumed(cell: Cell, airflow: StandaloneAirflow, emulator: Emulator, patience: float) -> None:
    service = emulator.service
    time.sleep(max(0.0, cell.happened + 20 - time.time()))  # The last try may take a while to end.
    seen = service.operations[cell.name].reads

    def polled_or_lost() -> bool:
        return service.operations[cell.name].reads > seen + 1 or service.state(cell.name) != "RUNNING"

    try:
        wait_until(polled_or_lost, timeout=120 + patience, what="the polling to go on")
        if cell.holder == "starting" and cell.event == "task_cleared" and requested(emulator, cell.name):
            # Airflow raised `max_tries`, as it sometimes does: the next try detects the clear, and starts again.
            wait_until(lambda: len(cell.started(emulator)) > 1, timeout=60 + patience, what="the next operation")
            _judge_cancelled(cell, emulator, patience)
            return
        if requested(emulator, cell.name) or service.state(cell.name) != "RUNNING":
            cell.observed = f"not left alone: {service.state(cell.name)}"
            return
        if cell.starts_it_itself and len(cell.started(emulator)) > 1:
            cell.observed = "started twice"
            return
        service.finish(cell.name)
        airflow.wait_for_task(cell.dag_id, cell.run_id, "hold", "success", timeout=60 + patience)
    except TimeoutError as error:
        cell.observed = f"not resumed: {error}"
        return
    cell.kept = True
    cell.observed = "resumed"
