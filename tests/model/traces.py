"""Traces of real runs, and whether the model can reproduce them; if not, the model is wrong about Airflow.

A trace lists what is visible from outside, in order: tries that begin, deferrals, exports that are started, what
happened to the task, requested cancels, and how the task ended. `tests/system/tracing.py` writes the traces of the
lifecycle matrix and of the soak.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any
from unittest import mock

import triggerer_model
import worker_model
from database_model import TERMINAL
from history import Run
from plans import Plan
from tracing import STRUCK, TRACES, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds by which the delay from an event to the cancel may differ from the model's: Airflow's scheduler looks for
#: timed-out triggers every 15 s, and Airflow 2 tells a worker late. The matrix stops a triggerer longer than the model.
TOLERANCE, WITHOUT_TRIGGERER = 30.0, 100.0

#: In seconds: how long a cancel takes in the matrix if the cancel operator is the holder; between two passes of a
#: triggerer, which may be busy; and how long a worker takes to parse a DAG's file, while twenty may do so at once.
CANCEL_SECONDS, TRIGGERER, PARSING = 20.0, (1.0, 3.0), (1.0, 5.0, 0.3)

#: The model's holders for the holders of the matrix and of the soak.
HOLDERS = {
    "cancel_running": "cancel, worker",
    "cancel_deferred": "cancel, deferred",
    "sensor_running": "sensor, poking",
    "sensor_rescheduled": "sensor, reschedule",
    "sensor_deferred": "sensor, deferred",
    "export_running": "export, worker",
    "export_deferred": "export, deferred",
    "torn_down": "export, deferred",
    "soak_several": "function, deferred",
    "soak_policy": "function, deferred",
    "soak_fail_fast": "function, deferred",
    "soak_sensor": "sensor, deferred",
    "soak_timeout": "export, deferred",
    "soak_worker": "export, worker",
}

#: Events of the matrix with the same name as a strike of the model.
SAME = (
    "task_cleared",
    "task_marked_failed",
    "task_marked_success",
    "run_marked_failed",
    "run_deleted",
    "dagrun_timeout",
    "execution_timeout",
    "trigger_timeout",
    "worker_sigterm",
    "worker_sigkill",
    "worker_lost_sight_of",
    "worker_stood_still",
    "triggerer_sigterm",
    "triggerer_sigkill",
)
#: The model's strikes for the matrix's events. The second of two happens while the first lasts.
EVENTS: dict[str, tuple[str, ...]] = {event: (event,) for event in SAME} | {
    "run_cleared": ("task_cleared",),
    "worker_evicted": ("worker_sigterm",),
    "cleared_without_triggerer": ("triggerer_sigkill", "task_cleared"),
    "failed_without_triggerer": ("triggerer_sigkill", "run_marked_failed"),
    "one_triggerer_sigterm": ("triggerer_sigterm",),
    "one_triggerer_sigkill": ("triggerer_sigkill",),
    "one_triggerer_stands_still": ("trigger_taken_over",),
    "celery_warm": (),
    "celery_cold": ("worker_sigterm",),
    "celery_sigterm_twice": ("worker_sigterm",),
    "celery_sigkill": ("worker_sigkill",),
    "redelivered": (),
    "api_server_restarts": (),
    "scheduler_sigkill": (),
    "left_alone": (),
    "nothing": (),
}

#: Events in whose cells the DAG's author has set a retry.
RETRIED = {
    "worker_evicted",
    "worker_lost_sight_of",
    "worker_stood_still",
    "celery_cold",
    "celery_sigterm_twice",
    "celery_sigkill",
}

#: A deferred task times out in the triggerer.
_IN_TRIGGERER = {"execution_timeout": "trigger_timeout"}


@dataclass(frozen=True)
class Trace:
    """The trace of one task.

    :param seen: when, in seconds, and what.
    """

    version: str
    holder: str
    event: str
    seen: tuple[tuple[float, str], ...]

    def __str__(self) -> str:
        return f"{self.version} {self.holder} {self.event}"

    @property
    def words(self) -> tuple[str, ...]:
        """What was seen, in order."""
        return in_order(self.seen, leave_out=self.unordered)

    @property
    def unordered(self) -> set[str]:
        """What can come at any place: an event without a strike in the model; and, after a clear, a trigger's cancel.

        The trigger and the next try run at the same time.
        """
        struck = {STRUCK} if not EVENTS.get(self.event) else set()
        is_cleared = "cleared" in self.event and HOLDERS[self._name].endswith("deferred")
        return struck | ({"cancel"} if is_cleared else set())

    @property
    def minor_version(self) -> str:
        return self.version[: self.version.rindex(".")]

    @property
    def is_in_model(self) -> bool:
        """Whether the model knows the holder and the event."""
        # Airflow 2's LocalExecutor starts a task again while its process lives, if the scheduler is killed.
        is_started_again = self.event == "scheduler_sigkill" and any(what == "try 2" for _, what in self.seen)
        return self._name in HOLDERS and self.event in EVENTS and not is_started_again

    @property
    def _name(self) -> str:
        """The holder's name; the soak runs each of its tasks also in a DAG without notifier and teardown."""
        return self.holder.removesuffix("_bare")

    def plans(self) -> Iterator[Plan]:
        """Yield the plans of which one must match the trace: its strikes at any step."""
        holder = HOLDERS[self._name]
        strikes = EVENTS[self.event]
        if holder.endswith("deferred"):
            strikes = tuple(_IN_TRIGGERER.get(strike, strike) for strike in strikes)
        retries = self.event in RETRIED or self.holder.startswith("soak")
        for cleaner in ("teardown" if self.holder == "torn_down" else "", "collector"):
            how: dict[str, Any] = {"cleaner": cleaner, "retries": retries}
            undisturbed = Plan(holder, self.minor_version, **how)
            if not strikes:
                yield undisturbed
                continue
            for step in range(run_of(undisturbed).carry_out().steps):
                yield Plan(holder, self.minor_version, tuple(enumerate(strikes, start=step)), **how)


def run_of(plan: Plan) -> Run:
    """Return a run of the model, whose operations behave as in the matrix."""
    run = Run(plan)
    if plan.holder.startswith("cancel"):
        for name in run.mine:
            operation = run.world.service.operations[name]
            operation.behaviour = replace(operation.behaviour, cancel_seconds=CANCEL_SECONDS)
    return run


def seen_in_model(plan: Plan, triggerer: float, parsing: float) -> list[tuple[float, str]]:
    """Carry out a plan, and return what is visible from outside.

    :param triggerer: seconds between two passes of the triggerer.
    :param parsing: seconds that a worker takes to parse the DAG's file.
    """
    run = run_of(plan)
    with (
        mock.patch.object(triggerer_model, "TRIGGERER", triggerer),
        mock.patch.object(worker_model, "PARSING", parsing),
    ):
        run.carry_out()
    row, exports = run.airflow.row, bool(run.exports)
    seen = list(run.airflow.seen)
    seen += [(moment, STRUCK) for moment in run.struck_moments]
    for name, operation in run.world.service.operations.items():
        if name in run.bystanders:
            continue
        if exports:
            seen.append((operation.created, "export"))
        if operation.cancel_requested is not None:
            seen.append((operation.cancel_requested, "cancel"))
    if row.state in TERMINAL:
        seen.append((math.inf, f"ended: {row.state}"))
    return seen


def accepts(trace: Trace) -> Plan | None:
    """Return a plan whose history begins like a trace; None if there is none."""
    wanted = trace.words
    tolerance = WITHOUT_TRIGGERER if trace.event.endswith("without_triggerer") else TOLERANCE
    for plan, triggerer, parsing in product(trace.plans(), TRIGGERER, PARSING):
        seen = seen_in_model(plan, triggerer, parsing)
        if in_order(seen, leave_out=trace.unordered)[: len(wanted)] == wanted and _is_in_time(
            trace.seen, seen, tolerance
        ):
            return plan
    return None


def _is_in_time(real: Any, seen: Any, tolerance: float) -> bool:
    delays = [_delay(real), _delay(seen)]
    return None in delays or abs(delays[0] - delays[1]) < tolerance  # type: ignore[operator]


def _delay(seen: Any) -> float | None:
    """Return the seconds from the event to the first cancel after it."""
    struck = min((moment for moment, what in seen if what == STRUCK), default=None)
    if struck is None:
        return None
    after = [moment - struck for moment, what in seen if what == "cancel" and moment > struck]
    return min(after, default=None)


def read() -> list[Trace]:
    """Return the stored traces."""
    return [
        Trace(one["version"], one["holder"], one["event"], tuple((moment, what) for moment, what in one["seen"]))
        for file in sorted(TRACES.glob("*.json"))
        for one in json.loads(file.read_text(encoding="utf-8"))
    ]
