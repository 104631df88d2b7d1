"""The runs of a soak: the event of each run, and the required result of its exports."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil
from actions import signal_worker
from trying import TRIED

if TYPE_CHECKING:
    import random

    from airflow_ee_provider.emulator.operations import EmulatedOperation
    from airflow_ee_provider.emulator.service import Service
    from dev.standalone import StandaloneAirflow

#: The number of exports, by shape of DAG.
SHAPES = {"several": 2, "mapped": 3, "sensor": 1, "worker": 1, "timeout": 1, "policy": 1, "fail_fast": 2}

#: The share of runs without the notifier and the teardown: only the collector cleans up after them.
BARE = 1 / 3

#: Events, in the words of the vocabulary: their relative frequency, and whether they must cancel the run's exports.
EVENTS = {
    "nothing": (40, False),
    "task_cleared": (15, True),
    "task_marked_failed": (10, True),
    "task_marked_success": (5, True),
    "run_marked_failed": (10, True),
    "times_out": (10, True),
    "worker_sigkill": (10, False),
    "retry_policy": (40, True),
    "fail_fast": (40, True),
}

#: Events that the soak does not cause: a time limit or the DAG's own code does.
BY_ITSELF = ("nothing", "times_out", "retry_policy", "fail_fast")

#: Events that only happen to runs of one shape.
ONLY = {"worker_sigkill": "worker", "retry_policy": "policy", "fail_fast": "fail_fast"}

#: The most seconds from a start to its cancel, if the start was repeated only to cancel the operation.
AT_ONCE = 5.0

#: Events that end the run, and therefore also the export of its other task.
ENDS_THE_RUN = ("run_marked_failed", "times_out", "fail_fast")


@dataclass
class Run:
    """A DAG run, and its event."""

    shape: str
    event: str
    run_id: str
    started: float
    act_after: float
    is_bare: bool = False
    began: float = 0.0
    #: When the soak caused its event, and when the soak saw its end.
    happened: float = 0.0
    ended: float = 0.0
    acted: bool = False
    state: str = ""

    @property
    def dag_id(self) -> str:
        return dag_id_of(self.shape, is_bare=self.is_bare)

    @property
    def finished(self) -> bool:
        return self.state in ("success", "failed")

    @property
    def had_its_event(self) -> bool:
        """Whether its event has happened: a run may end before its event."""
        return self.acted or self.event in BY_ITSELF

    def exports(self, service: Service) -> list[EmulatedOperation]:
        return [o for o in list(service.operations.values()) if self.run_id in o.description]

    def exports_of_the_holder(self, service: Service) -> list[EmulatedOperation]:
        """Return the exports of the task to which the event happens."""
        return [operation for operation in self.exports(service) if not is_neighbour(operation)]

    def look(self, airflow: StandaloneAirflow) -> None:
        """Update the run's state, and cause its event, at any moment after its task's start."""
        self.state = airflow.run(self.dag_id, self.run_id)["state"]
        if self.finished:
            self.ended = time.time()
        if self.finished or self.had_its_event:
            return
        tasks = airflow.call("GET", f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances")["task_instances"]
        held = [t for t in tasks if t["task_id"] == "hold" and t["state"] in ("deferred", "running")]
        if not held:
            return
        self.began = self.began or time.time()
        if time.time() - self.began >= self.act_after:
            self._act(airflow, held[0])

    def _act(self, airflow: StandaloneAirflow, task: dict[str, Any]) -> None:
        if self.event == "worker_sigkill" and not task["pid"]:
            return
        self.happened = time.time()
        if self.event == "task_cleared":
            airflow.clear(self.dag_id, self.run_id, "hold")
        elif self.event == "run_marked_failed":
            airflow.mark_run(self.dag_id, self.run_id, "failed")
        elif self.event == "worker_sigkill":
            signal_worker(psutil.Process(task["pid"]), signal.SIGKILL)
        else:
            airflow.mark_task(self.dag_id, self.run_id, "hold", self.event.rpartition("_")[2])
        self.acted = True  # If Airflow was down, the call above raised an error, and `look` repeats it.


def dag_id_of(shape: str, *, is_bare: bool) -> str:
    """Return the id of a shape's DAG, with or without notifier and teardown."""
    return f"soak_{shape}{'_bare' if is_bare else ''}"


def choose(chance: random.Random, airflow: StandaloneAirflow) -> Run:
    """Start a run of a random shape, with a random event."""
    shape = chance.choice(list(SHAPES))
    possible = {event: weight for event, (weight, _) in EVENTS.items() if ONLY.get(event, shape) == shape}
    if shape == "mapped":  # To mark its mapped tasks one by one would be another event.
        del possible["task_marked_failed"], possible["task_marked_success"]
    [event] = chance.choices(list(possible), list(possible.values()))
    lives = "long" if EVENTS[event][1] else "short"
    is_bare, after = chance.random() < BARE, chance.uniform(0, 25)
    run_id = airflow.trigger(dag_id_of(shape, is_bare=is_bare), lives=lives, happens=event, after=after)
    return Run(shape, event, run_id, time.time(), after, is_bare=is_bare)


def judge(runs: list[Run], service: Service) -> dict[str, list[str]]:
    """Return the errors, by kind: each entry names the run or the export."""
    now = service.clock.now()
    wrong: dict[str, list[str]] = {
        "should be cancelled and are not": [],
        "should not be cancelled and are": [],
        "started twice": [],
        "runs that did not end as they should": [],
    }
    tried = [operation for operation in service.operations.values() if operation.description == TRIED]
    wrong["should be cancelled and are not"] += [f"Ctrl-C {o.name}" for o in tried if not o.done(now)]
    for run in runs:
        mine = run.exports(service)
        what = f"{run.dag_id} {run.run_id} ({run.event})"
        wrong["should be cancelled and are not"] += [f"{what} {o.name}" for o in mine if not o.done(now)]
        by_export = defaultdict(list)
        for operation in mine:
            by_export[operation.description].append(operation)
        for description, operations in by_export.items():
            operations.sort(key=lambda o: o.created)
            # After a lost response, a start is repeated to learn the operation's name, and the operation is cancelled.
            kept = [o for o in operations if (o.cancel_requested or now) - o.created > AT_ONCE]
            overlaps = any(b.created < a.ended() for a, b in pairwise(kept))
            unwanted = len(kept) > 1 and not EVENTS[run.event][1]
            wrong["started twice"] += [f"{what} {description}"] if overlaps or unwanted else []
        # A neighbour's export is needed until its run ends.
        wanted = [o for o in mine if not EVENTS[run.event][1] or (is_neighbour(o) and run.event not in ENDS_THE_RUN)]
        asked = [o for o in wanted if o.cancel_requested is not None]
        wrong["should not be cancelled and are"] += [f"{what} {o.name}" for o in asked]
        if not EVENTS[run.event][1] and (run.state != "success" or len(by_export) != SHAPES[run.shape] + 1):
            wrong["runs that did not end as they should"].append(f"{what}: {run.state}, {len(by_export)} exports")
    return wrong


def is_neighbour(operation: EmulatedOperation) -> bool:
    """Whether an operation is the export of the run's other task, to which no event happens."""
    return operation.description.endswith("-neighbour")
