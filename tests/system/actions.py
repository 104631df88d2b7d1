"""Triggers the events of the lifecycle matrix; each function returns the event's time, in seconds since the epoch."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from durations import DAGRUN_TIMEOUT

from dev.airflow_api import seconds_since_epoch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix_cells import Cell

    from dev.standalone import StandaloneAirflow

#: Seconds from a worker's SIGTERM to its SIGKILL.
GRACE = 10.0

#: Seconds until Airflow has missed a worker's heartbeats, the next try has begun, and the worker has resumed.
LOST_SIGHT = 80.0


def task_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.task(cell.dag_id, cell.run_id, "hold")["start_date"])


def run_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.run(cell.dag_id, cell.run_id)["start_date"])


def run_queued(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.run(cell.dag_id, cell.run_id)["queued_at"])


def now(action: Callable[[Cell, StandaloneAirflow], object]) -> Callable[[Cell, StandaloneAirflow], float]:
    def act(cell: Cell, airflow: StandaloneAirflow) -> float:
        moment = time.time()
        action(cell, airflow)
        return moment

    return act


def kill_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Kill the task's process and its supervisor."""
    signal_worker(_process(cell, airflow), signal.SIGKILL)


def stop_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Stop both as Kubernetes stops a pod: with SIGTERM, and with SIGKILL after a grace period."""
    process = _process(cell, airflow)
    signal_worker(process, signal.SIGTERM)
    threading.Timer(GRACE, signal_worker, (process, signal.SIGKILL)).start()


def _process(cell: Cell, airflow: StandaloneAirflow) -> psutil.Process:
    return psutil.Process(airflow.task(cell.dag_id, cell.run_id, "hold")["pid"])


def signal_worker(process: psutil.Process, sent: signal.Signals) -> None:
    """Send a signal to a task's process and its supervisor, which runs other tasks once that process has ended."""
    with suppress(psutil.NoSuchProcess):
        if (supervisor := process.parent()) and process.is_running():
            supervisor.send_signal(sent)
            process.send_signal(sent)


def lose_sight_of_worker(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Suspend the task's supervisor until the next try runs; return the expected time at which it resumes."""
    return _stand_still([_process(cell, airflow).parent()], "running", cell, airflow)


def let_worker_stand_still(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Suspend supervisor and task until the next try is deferred; return the expected time at which they resume."""
    process = _process(cell, airflow)
    return _stand_still([process.parent(), process], "deferred", cell, airflow)


def _stand_still(processes: list[psutil.Process], until: str, cell: Cell, airflow: StandaloneAirflow) -> float:
    cell.stood_still = time.time()
    for process in processes:
        process.send_signal(signal.SIGSTOP)

    def is_tried_again() -> bool:
        task = airflow.task(cell.dag_id, cell.run_id, "hold")
        return task["try_number"] > 1 and task["state"] == until

    def wake_up() -> None:
        with suppress(TimeoutError):
            wait_until(is_tried_again, timeout=LOST_SIGHT, what="the next try")
        time.sleep(5)
        for process in processes:
            process.send_signal(signal.SIGCONT)

    threading.Thread(target=wake_up).start()
    return time.time() + LOST_SIGHT


def end_process_alone(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Send SIGTERM to the task's process alone; mark the task failed some seconds later."""
    _process(cell, airflow).send_signal(signal.SIGTERM)
    time.sleep(8)
    return mark("failed")(cell, airflow)


def run_out_of_time(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Do nothing; return the time of the run's timeout."""
    return run_started(cell, airflow) + DAGRUN_TIMEOUT


#: Another task of the run waits for this file, and then fails.
fail_other = now(lambda cell, _: Path(cell.signal).touch())


def clear_while_paused(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Pause the DAG, and clear the task: Airflow schedules no task of a paused DAG."""
    airflow.pause(cell.dag_id, paused=True)
    return now(lambda c, a: a.clear(c.dag_id, c.run_id, c.cleared_task))(cell, airflow)


def fail_and_delete(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Mark a run failed, and delete it: Airflow 3 refuses to delete an active run."""
    airflow.mark_run(cell.dag_id, cell.run_id, "failed")
    time.sleep(5)  # The scheduler of 3.1.8 crashes if a run is deleted while it processes the run (StaleDataError).
    airflow.delete_run(cell.dag_id, cell.run_id)


def pause(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Pause the DAG until 10 seconds after its run's timeout; return the time at which it is unpaused."""
    airflow.pause(cell.dag_id, paused=True)
    moment = run_started(cell, airflow) + DAGRUN_TIMEOUT + 10
    threading.Timer(moment - time.time(), airflow.pause, (cell.dag_id,), {"paused": False}).start()
    return moment


def mark(state: str) -> Callable[[Cell, StandaloneAirflow], float]:
    return now(lambda c, a: a.mark_task(c.dag_id, c.run_id, "hold", state))


fail_run = now(lambda c, a: a.mark_run(c.dag_id, c.run_id, "failed"))
clear = lambda c, a: a.clear(c.dag_id, c.run_id, c.cleared_task)  # noqa: E731
