"""The cells of the lifecycle matrix: who holds an operation, and what happens to it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from airflow_ee_provider.standalone import seconds_since_epoch, wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

PROJECT = "earth-demo"

#: Seconds from a worker's SIGTERM to its SIGKILL.
GRACE = 10.0

#: Who holds the operation, and the state of the task by which it does.
HOLDERS = {
    "cancel_running": "running",
    "cancel_deferred": "deferred",
    "sensor_running": "running",
    "sensor_rescheduled": "up_for_reschedule",
    "sensor_deferred": "deferred",
    "export_running": "running",
    "export_deferred": "deferred",
    "torn_down": "deferred",
    "starting": "running",
    "started": "running",
}
DEFERRED = ("cancel_deferred", "sensor_deferred", "export_deferred", "torn_down")
IN_WORKER = ("cancel_running", "sensor_running", "export_running", "started")
#: How the description of the export ends that fails beside the one that must not be lost.
FAILING = "-fails"
EXPORTS = ("export_running", "export_deferred", "torn_down")

Event = Callable[["Cell", "StandaloneAirflow"], float]


@dataclass
class Cell:
    """A DAG run that holds an operation, and what is going to happen to it."""

    holder: str
    event: str
    run_id: str = ""
    #: The operations that its tasks hold; the last one is the one that must not be lost.
    operations: list[str] = field(default_factory=list)
    happened: float = 0.0
    observed: str = ""
    kept: bool = False

    @property
    def dag_id(self) -> str:
        return f"{self.holder}__{self.event}"

    @property
    def name(self) -> str:
        return self.operations[-1]

    @property
    def cleared_task(self) -> str:
        """What a user clears: with an operation that was started and left, its task has succeeded."""
        return "start" if self.holder == "started" else "hold"

    @property
    def starts_it_itself(self) -> bool:
        """Whether the operation is started by the run's own task."""
        return self.holder in (*EXPORTS, "starting", "started")

    @property
    def ends_by_itself(self) -> bool:
        """Whether nobody has to do anything for it to happen."""
        return "timeout" in self.event or self.event in ("exception", "task_callback", "deadline")

    def start(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Start the run; its operations are there before, unless its own task starts them."""
        service = emulator.service
        slow = {"cancel_seconds": 20.0} if self.holder.startswith("cancel") else {}
        if self.event in ("exception", "task_callback") and self.holder.startswith("sensor"):
            failing = service.add(self.dag_id, PROJECT, outcome="FAILED", run_seconds=30.0)
            self.operations.append(failing)
            self.happened = service.operations[failing].ended()
        if self.event == "exception" and self.holder.startswith("cancel"):
            refused = service.add(self.dag_id, PROJECT)
            service.fail("permission_denied", times=None, path=f"{refused}:cancel")
            self.operations.append(refused)
        if self.event == "exception" and self.holder in EXPORTS:
            service.behave(self.dag_id + FAILING, outcome="FAILED", run_seconds=30.0)
        if not self.starts_it_itself:
            self.operations.append(service.add(self.dag_id, PROJECT, **slow))
        self.run_id = airflow.trigger(self.dag_id, operation_names=self.operations)

    def wait_until_held(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Wait until the task is in the state in which it holds its operation."""
        later = ("failed", "success", "skipped") if self.ends_by_itself else ()
        airflow.wait_for_task(self.dag_id, self.run_id, "hold", HOLDERS[self.holder], *later, timeout=180)
        if self.starts_it_itself:
            wait_until(lambda: self.started(emulator), timeout=60, what=f"the operation of {self.dag_id}")
            self.operations = self.started(emulator)
        if self.holder in DEFERRED and not self.ends_by_itself:
            # The second look is the trigger's: before, there is none that could be told of anything.
            wait_until(
                lambda: emulator.service.operations[self.name].reads >= 2,
                timeout=60,
                what="the trigger's first look",
            )
        for failing in self.started(emulator, FAILING):
            self.happened = emulator.service.operations[failing].ended()

    def act(self, airflow: StandaloneAirflow) -> None:
        """Let it happen; to a rescheduled sensor while it sleeps, for while it pokes it is as any running one."""
        if self.holder == "sensor_rescheduled" and not self.ends_by_itself:
            airflow.wait_for_task(self.dag_id, self.run_id, "hold", HOLDERS[self.holder], timeout=60)
        self.happened = self.happened or EVENTS[self.event](self, airflow)

    def started(self, emulator: Emulator, suffix: str = "") -> list[str]:
        """Return all operations of this cell, the oldest first."""
        operations = list(emulator.service.operations.values())
        return [o.name for o in operations if o.description == self.dag_id + suffix]


def task_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.task(cell.dag_id, cell.run_id, "hold")["start_date"])


def run_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.run(cell.dag_id, cell.run_id)["start_date"])


def now(action: Callable[[Cell, StandaloneAirflow], None]) -> Event:
    def act(cell: Cell, airflow: StandaloneAirflow) -> float:
        moment = time.time()
        action(cell, airflow)
        return moment

    return act


def kill_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Kill the task's process and its supervisor."""
    signal_worker(_process(cell, airflow), signal.SIGKILL)


def stop_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Stop them as Kubernetes stops a pod: ask, and kill after a while of grace."""
    process = _process(cell, airflow)
    signal_worker(process, signal.SIGTERM)
    threading.Timer(GRACE, signal_worker, (process, signal.SIGKILL)).start()


def _process(cell: Cell, airflow: StandaloneAirflow) -> psutil.Process:
    return psutil.Process(airflow.task(cell.dag_id, cell.run_id, "hold")["pid"])


def signal_worker(process: psutil.Process, sent: signal.Signals) -> None:
    """Send a signal to a task's process and its supervisor, which runs other tasks once that one has gone."""
    with suppress(psutil.NoSuchProcess):
        if (supervisor := process.parent()) and process.is_running():
            supervisor.send_signal(sent)
            process.send_signal(sent)


#: What is done to a cell that holds its operation; returns when it happens, in seconds since the epoch.
EVENTS: dict[str, Event] = {
    "task_cleared": lambda c, a: a.clear(c.dag_id, c.run_id, c.cleared_task),
    "run_cleared": now(lambda c, a: a.clear_run(c.dag_id, c.run_id)),
    "task_marked_failed": now(lambda c, a: a.mark_task(c.dag_id, c.run_id, "hold", "failed")),
    "task_marked_success": now(lambda c, a: a.mark_task(c.dag_id, c.run_id, "hold", "success")),
    "run_marked_failed": now(lambda c, a: a.mark_run(c.dag_id, c.run_id, "failed")),
    "dagrun_timeout": lambda c, a: run_started(c, a) + 20,
    "execution_timeout": lambda c, a: task_started(c, a) + 10,
    "trigger_timeout": lambda c, a: task_started(c, a) + 10,
    "exception": lambda c, a: task_started(c, a) + (8 if c.holder == "started" else 0),
    "task_callback": task_started,
    "worker_sigterm": now(stop_worker),
    "worker_sigkill": now(kill_worker),
    "deadline": lambda c, a: run_started(c, a) + 20,
}

#: What happens to all deferred tasks at once, because the triggerer goes.
TRIGGERER_EVENTS = {"triggerer_sigterm": signal.SIGTERM, "triggerer_sigkill": signal.SIGKILL}
#: What is done while no triggerer runs.
WITHOUT_TRIGGERER = {
    "cleared_without_triggerer": EVENTS["task_cleared"],
    "failed_without_triggerer": EVENTS["run_marked_failed"],
}


def applies(holder: str, event: str) -> bool:
    """Whether such a thing can happen to such a holder."""
    if holder == "starting":  # It is about the next try; what else can happen is as with any plain task.
        return event in ("task_cleared", "run_cleared", "worker_sigkill")
    if event == "trigger_timeout":  # An export's task has only its execution_timeout.
        return holder in DEFERRED and holder not in EXPORTS
    if event in TRIGGERER_EVENTS or event in WITHOUT_TRIGGERER:
        return holder in DEFERRED
    if event in ("worker_sigterm", "worker_sigkill"):
        return holder in IN_WORKER
    return event != "task_callback" or holder.startswith("sensor")
