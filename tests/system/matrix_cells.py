"""The cells of the lifecycle matrix: a holder of an operation, and the event that happens to it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from durations import DEADLINE
from events import CANCEL, EVENTS, EXPORTS, SENSORS, WITH_DAG_CALLBACK

from dev.airflow_api import seconds_since_epoch, wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

PROJECT = "earth-demo"

#: The holders of an operation, and the state of the task while it holds the operation.
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

#: Suffixes of descriptions: of the export that fails beside the one that must not be lost; and of the operations of
#: another task of the run and of another run, which must not be cancelled.
FAILING, NEIGHBOUR = "-fails", "-neighbour"

#: Events in which one of two operations fails.
FAILURES = ("exception", "task_callback", "dag_callback")


@dataclass
class Cell:
    """A DAG run that holds an operation, and the event that happens to it."""

    holder: str
    event: str
    run_id: str = ""
    #: Whether there is another run of the DAG, which holds an operation; and that run.
    has_bystander: bool = True
    bystander: str = ""
    #: The operations that its tasks hold; the last one is the one that must not be lost.
    operations: list[str] = field(default_factory=list)
    #: The operations that must keep running: of another run of the DAG, and of another task of this run.
    neighbours: list[str] = field(default_factory=list)
    happened: float = 0.0
    #: When its worker was suspended; ``happened`` is when it resumes.
    stood_still: float = 0.0
    observed: str = ""
    kept: bool = False
    #: When it was judged; what happens to its task later has other causes.
    judged: float = 0.0
    #: The file for which another task of the run waits before it fails, if the event is ``fail_fast_between_tries``.
    signal: str = ""

    @property
    def dag_id(self) -> str:
        return f"{self.holder}__{self.event}"

    @property
    def name(self) -> str:
        return self.operations[-1]

    @property
    def cleared_task(self) -> str:
        """The task that a user clears: of the holder ``started``, the task that has started the operation."""
        return "start" if self.holder == "started" else "hold"

    @property
    def starts_it_itself(self) -> bool:
        """Whether the operation is started by the run's own task."""
        return self.holder in (*EXPORTS, "starting", "started")

    @property
    def ends_by_itself(self) -> bool:
        """Whether the event happens without an action."""
        return self.event in EVENTS and EVENTS[self.event].ends_by_itself

    def start_bystander(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Start another run of the DAG, which only holds an operation."""
        self.neighbours = [emulator.service.add(self.dag_id + NEIGHBOUR, PROJECT)]
        self.bystander = airflow.trigger(
            self.dag_id, operation_names=[], neighbour=self.neighbours[0], is_bystander=True
        )

    def wait_for_bystander(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Wait for the other run's end; repeat a run that was too slow for its own ``dagrun_timeout`` or deadline."""

        def ended() -> dict[str, Any]:
            run: dict[str, Any] = airflow.run(self.dag_id, self.bystander)
            return run if run["state"] in ("success", "failed") else {}

        def is_too_slow(run: dict[str, Any]) -> bool:
            began = run["queued_at" if self.event == "deadline" else "start_date"]
            seconds = seconds_since_epoch(run["end_date"]) - seconds_since_epoch(began)
            # Airflow checks for missed deadlines periodically, and drops the deadline of a run that has succeeded.
            return run["state"] == "failed" or (self.event == "deadline" and seconds > DEADLINE - 2)

        while is_too_slow(wait_until(ended, what=f"the other run of {self.dag_id}")):
            self.start_bystander(airflow, emulator)

    def start(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Start the run; its operations are added first, unless its own task starts them."""
        service = emulator.service
        slow = {"cancel_seconds": 20.0} if self.holder in CANCEL else {}
        if self.event in FAILURES and self.holder in SENSORS:
            failing = service.add(self.dag_id, PROJECT, outcome="FAILED", run_seconds=30.0)
            self.operations.append(failing)
            self.happened = service.operations[failing].ended()
        if self.event == "exception" and self.holder in CANCEL:
            refused = service.add(self.dag_id, PROJECT)
            service.fail("permission_denied", times=None, path=f"{refused}:cancel")
            self.operations.append(refused)
        if self.event == "exception" and self.holder in EXPORTS:
            service.behave(self.dag_id + FAILING, outcome="FAILED", run_seconds=30.0)
        if not self.starts_it_itself:
            self.operations.append(service.add(self.dag_id, PROJECT, **slow))
        beside = {}
        if self.event not in WITH_DAG_CALLBACK:  # A DAG's notifier cancels for the whole run: the neighbour, too.
            self.neighbours.append(service.add(self.dag_id + NEIGHBOUR, PROJECT))
            beside["neighbour"] = self.neighbours[-1]
        if self.event == "fail_fast_between_tries":
            self.signal = beside["signal"] = str(Path(tempfile.gettempdir()) / uuid4().hex)
        self.run_id = airflow.trigger(self.dag_id, operation_names=self.operations, **beside)

    def harmed(self, emulator: Emulator) -> list[str]:
        """Return the neighbours that were asked to cancel without a reason."""
        return [name for name in self.neighbours if emulator.service.operations[name].cancel_requested is not None]

    @property
    def held_as(self) -> str:
        """The state of the task while it holds its operation."""
        return (self.event in EVENTS and EVENTS[self.event].held_as) or HOLDERS[self.holder]

    def wait_until_held(self, airflow: StandaloneAirflow, emulator: Emulator) -> None:
        """Wait until the task is in the state in which it holds its operation."""
        later = ("failed", "success", "skipped") if self.ends_by_itself else ()
        working = self.event in EVENTS and EVENTS[self.event].while_working
        held = "running" if working else self.held_as
        airflow.wait_for_task(self.dag_id, self.run_id, "hold", held, *later)
        if self.starts_it_itself:
            wait_until(lambda: self.started(emulator), what=f"the operation of {self.dag_id}")
            self.operations = self.started(emulator)
        if self.held_as == "deferred" and not self.ends_by_itself and not working:
            # The trigger makes the second poll; before that, no trigger runs that could react to the event.
            wait_until(
                lambda: emulator.service.operations[self.name].reads >= 2,
                what="the trigger's first look",
            )
        for failing in self.started(emulator, FAILING):
            self.happened = emulator.service.operations[failing].ended()

    def act(self, airflow: StandaloneAirflow) -> None:
        """Trigger the event; for a rescheduled sensor while it sleeps, as one that pokes is like any running sensor."""
        if self.holder == "sensor_rescheduled" and not self.ends_by_itself:
            airflow.wait_for_task(self.dag_id, self.run_id, "hold", HOLDERS[self.holder])
        act = EVENTS[self.event].act
        assert act is not None
        self.happened = self.happened or act(self, airflow)

    def started(self, emulator: Emulator, suffix: str = "") -> list[str]:
        """Return all operations of this cell, oldest first."""
        operations = list(emulator.service.operations.values())
        return [o.name for o in operations if o.description == self.dag_id + suffix]
