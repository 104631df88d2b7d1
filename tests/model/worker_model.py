"""A worker of the model: the processes of a task's tries, and how they end."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from database_model import HEARTBEAT, HEARTBEAT_TIMEOUT, RETRY_DELAY, SCHEDULER, STANDS_STILL, TASK, WAKES
from ee import EEException
from world import Dead, Process

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_model import Airflow


#: How long a worker takes to parse the DAG's file, in seconds.
PARSING = 1.0


class TaskTerminated(BaseException):
    """Raised by Airflow 2 in a task on SIGTERM, after ``on_kill``. As in Airflow, it is no ``Exception``."""


class FunctionError(Exception):
    """An error of the user's function.

    :param is_for_good: whether the task's retry policy prevents another try.
    """

    def __init__(self, *, is_for_good: bool) -> None:
        super().__init__("An error of the user's function.")
        self.is_for_good = is_for_good


class Worker:
    """Runs the tries of the task, one after the other.

    :param make: returns the task's operator; called in each process.
    """

    def __init__(self, airflow: Airflow, make: Callable[[], Any]) -> None:
        self.airflow, self.world, self._make = airflow, airflow.world, make

    def start(self) -> None:
        """Start a process of the task: for its next try, or to resume it after a deferral or a reschedule."""
        row = self.airflow.row
        if self.airflow.run_state not in ("running", "queued") or row.state not in ("scheduled", "up_for_reschedule"):
            return
        if not row.next_method and row.state != "up_for_reschedule":
            row.try_number += 1
            self.airflow.seen.append((self.world.now, f"try {row.try_number}"))
            self.airflow.xcoms[TASK].clear()  # Airflow deletes them when a try begins.
            self.airflow.first_started = self.world.now
        if row.state != "up_for_reschedule" and not row.next_method:
            row.started = self.world.now
        row.state = "running"
        process = row.process = Process(self.world, f"try {row.try_number}")
        process.start(lambda: self._work(process))
        self.world.after(HEARTBEAT, lambda: self.heartbeat(process))

    def _work(self, process: Process) -> None:
        row = self.airflow.row
        method, kwargs = row.next_method, row.next_kwargs
        row.next_method, row.next_kwargs = "", {}
        state = self._outcome(method, kwargs, process)
        if process.alive:
            self._finalize(process, state)
        if process.alive:
            self._ended(process, state)

    def _finalize(self, process: Process, state: str) -> None:
        """Report how a task ends, and call the listeners, as Airflow does at the end of a task's process.

        Airflow 3's supervisor stores success, up_for_retry and up_for_reschedule at once, and failed and skipped after
        the process has ended. Airflow 2 stores each state at once.
        """
        if process.ti is None or state == "deferred":
            return
        row, process.ti.state = self.airflow.row, state
        is_reported = self.airflow.is_2 or state in ("up_for_retry", "success", "up_for_reschedule")
        if is_reported:
            with suppress(TaskTerminated):
                self.world.step(f"reports {state}")
            if row.process is process and row.state == "running":
                self._write(process, state)
            elif state == "up_for_retry" and not self.airflow.version.stops_after_refusal:
                return  # The response is an error, which ends the process.
        self._before_stopping(process)

    def _before_stopping(self, process: Process) -> None:
        for listener in list(process.listeners):
            with suppress(TaskTerminated):  # A second SIGTERM ends the listener.
                listener.before_stopping(None)

    def _execute(self, method: str, kwargs: dict[str, Any], process: Process) -> None:
        context = self.airflow.context()
        process.ti = context["ti"]
        process.after_failure = self.airflow.row.after_failure  # Airflow determines it when the task starts.
        self.world.step("parses the DAG's file", PARSING)
        operator = process.operator = self._make()
        operator.pre_execute(context)
        process.is_timed = not method  # A resumption has no timeout in the process.
        process.is_executing = True
        try:
            operator.resume_execution(method, kwargs, context) if method else operator.execute(context)
        except AirflowTaskTimeout:
            operator.on_kill()
            raise
        finally:
            process.is_timed = process.is_executing = False

    def _outcome(self, method: str, kwargs: dict[str, Any], process: Process) -> str:
        try:
            self._execute(method, kwargs, process)
        except TaskDeferred as deferral:
            try:
                return self._defer(deferral, process)
            except TaskTerminated as error:
                self.world.note(f"     fails: {error}")
                return process.after_failure
        except AirflowRescheduleException as again:
            process.rescheduled_to = again.reschedule_date.timestamp()
            return "up_for_reschedule"
        except AirflowSkipException:
            return "skipped"
        except (AirflowFailException, AirflowSensorTimeout) as error:
            self.world.note(f"     fails for good: {str(error)[:160]}")
            return "failed"
        except (Exception, AirflowTaskTimeout, TaskTerminated) as error:  # noqa: BLE001 (Airflow fails the task on any error)
            self.world.note(f"     fails: {type(error).__name__} {str(error)[:160]}")
            if isinstance(error, FunctionError):
                self.airflow.row.is_failed_by_policy = error.is_for_good
            if not isinstance(
                error, (AirflowException, AirflowTaskTimeout, TaskTerminated, EEException, FunctionError)
            ):
                self.airflow.errors.append(f"{type(error).__name__}: {error}")
            return "failed" if self.airflow.row.is_failed_by_policy else process.after_failure
        return "success"

    def _defer(self, deferral: TaskDeferred, process: Process) -> str:
        self.world.step("asks to be deferred")
        row = self.airflow.row
        is_taken = row.process is process and row.state == "running" and self.airflow.run_state == "running"
        if is_taken:
            self.airflow.seen.append((self.world.now, "deferred"))
            row.state, row.trigger = "deferred", deferral.trigger.serialize()
            row.trigger_number += 1
            row.next_method, row.next_kwargs = deferral.method_name, dict(deferral.kwargs or {})
            seconds = math.inf if deferral.timeout is None else deferral.timeout.total_seconds()
            row.trigger_timeout = self.world.now + seconds
            number = row.trigger_number
            if seconds < math.inf:
                self.world.after(seconds, lambda: self.airflow.triggerer.times_out(number))
        else:
            self.world.note("     … which is refused")
            self.airflow.refused_after = self.airflow.asked_at
        if is_taken or self.airflow.version.stops_after_refusal:
            process.ti.state = "deferred"
            self._before_stopping(process)
        return "deferred"

    def _ended(self, process: Process, state: str) -> None:
        """Store the state of a task whose process has ended without a signal."""
        row = self.airflow.row
        process.alive = False
        process.ended_at = self.world.now
        self.world.note(f"{process.kind}: ends, {state}")
        if row.process is not process:
            return
        if row.state == "restarting":
            self._next_try()
        elif row.state == "running" and state != "deferred":
            self._write(process, state)

    def _write(self, process: Process, state: str) -> None:
        """Store how a try has ended, and schedule a next try or a reschedule."""
        row = self.airflow.row
        row.state = state
        if state == "success":
            self.airflow.succeeded_at = self.world.now
        if state == "up_for_retry":
            self._retries()
        elif state == "up_for_reschedule":
            self.world.at(max(self.world.now, process.rescheduled_to), self.start)
        elif state == "failed":
            self.airflow.run_state = "failed"

    def _failed(self) -> None:
        row = self.airflow.row
        row.state = "failed" if row.state == "failed" else row.after_failure
        if row.state == "up_for_retry":
            self._retries()
        else:
            self.airflow.run_state = "failed"

    def _retries(self) -> None:
        def again() -> None:
            if self.airflow.row.state == "up_for_retry":
                self._next_try()

        self.world.after(RETRY_DELAY, again)

    def _next_try(self) -> None:
        row = self.airflow.row
        row.state, row.next_method, row.trigger = "scheduled", "", None
        self.world.after(SCHEDULER, self.start)

    def heartbeat(self, process: Process) -> None:
        """Send a heartbeat; terminate the process if Airflow no longer runs the task in it."""
        if not process.is_running or process.is_to_end:
            return
        if self.world.now < process.still_until:
            self.world.at(process.still_until + WAKES[self.world.steps % 2], lambda: self.heartbeat(process))
            return
        row = self.airflow.row
        if row.process is process and row.state in ("running", "deferred"):
            self.world.after(HEARTBEAT, lambda: self.heartbeat(process))
            return
        self.terminate(process)

    def terminate(self, process: Process) -> None:
        """Send SIGTERM, and SIGKILL some seconds later."""
        self.world.note(f"{process.kind}: gets SIGTERM")
        process.is_to_end = True

        process.signal(self._handler(process))
        self.world.after(self.airflow.version.kill_after, lambda: self._kill(process))

    def _handler(self, process: Process) -> Callable[[], None]:
        def handler() -> None:
            if process.operator is None:  # Airflow has no handler yet while it parses the DAG's file.
                self.airflow.was_unheard = True
                self._kill(process)
                raise Dead
            process.operator.on_kill()
            if not self.airflow.version.handler_returns:
                raise TaskTerminated("Task received SIGTERM signal")

        return handler

    def interrupt(self) -> None:
        """Send SIGTERM to the task's process alone: no SIGKILL follows, and on Airflow 3 the process continues."""
        process = self.airflow.row.process
        if process is None or not process.is_running or process.is_to_end or process.operator is None:
            return
        if self.airflow.row.after_failure == "failed" and self.airflow.row.state == "running":
            self.airflow.want_no_more()
        self.world.note(f"{process.kind}: gets SIGTERM, and nothing else")
        process.signal(self._handler(process))

    def _kill(self, process: Process) -> None:
        if process.is_running:
            process.kill()
            if self.airflow.row.process is process and self.airflow.row.state == "restarting":
                self._next_try()

    def go(self, *, kill: bool) -> None:
        """Kill or terminate the worker."""
        row, process = self.airflow.row, self.airflow.row.process
        if process is None or not process.is_running:
            return
        if kill:
            process.kill()
        else:
            if row.after_failure == "failed" and row.state == "running":  # No other try follows.
                self.airflow.want_no_more()
            self.terminate(process)

        self.world.after(HEARTBEAT_TIMEOUT, lambda: self._is_missed(process, is_gone=True))

    def _is_missed(self, process: Process, *, is_gone: bool) -> None:
        row = self.airflow.row
        if row.process is process and row.state in ("running", "restarting"):
            self.world.note("scheduler: misses the heartbeat")
            if is_gone:
                process.kill()
            if row.state == "restarting":
                self._next_try()
            else:
                self._failed()

    def stands_still(self) -> None:
        """Suspend a worker's machine until the next try has taken over its work; then both continue."""
        process = self.airflow.row.process
        if process is None or not process.is_running or process.is_to_end or process.still_until > self.world.now:
            return
        process.still_until = self.world.now + STANDS_STILL
        self.world.after(HEARTBEAT_TIMEOUT, lambda: self._is_missed(process, is_gone=False))

    def is_lost_sight_of(self) -> None:
        """Fail a running worker's try, because the scheduler misses its heartbeats; the worker continues."""
        row, process = self.airflow.row, self.airflow.row.process
        if row.state == "running" and process is not None and process.is_running:
            self.world.note("scheduler: has lost sight of it")
            self._failed()
