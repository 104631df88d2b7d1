"""Cancel a task's operations, if necessary, when the task ends, times out, or its process is killed.

`lifecycle.decision` decides whether to cancel. `Ending` collects the facts in the task's process and acts on the
decision. It keeps a `Phase`, whether Airflow has ended the process, and whether the task has timed out.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.providers.common.compat.sdk import AirflowException

from airflow_ee_provider.base import process
from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.errors import has_tries_left, is_final
from airflow_ee_provider.base.process import ask_airflow, is_asking_airflow
from airflow_ee_provider.lifecycle.asking_airflow import decide_by_asking
from airflow_ee_provider.lifecycle.cancelling import cancel_own, owned_for_log
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, Standing, decide
from airflow_ee_provider.tracking.notes import note_settled
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.retry_memory import forget_tries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.lifecycle.cancelling import Owner

#: How long a signal that interrupts a request to Airflow is sent again, and the pause between two, in seconds.
SIGNALLED_AGAIN_FOR, SIGNALLED_AGAIN_AFTER = 1.0, 0.05

#: How long Airflow may take to store that no operation needs a cancel, in seconds. It sends SIGKILL 5 s after SIGTERM.
WRITTEN_WITHIN = 1.0

#: States in which a task ends without another try.
ENDS_FOR_GOOD = ("success", "failed", "skipped")


class Phase(str, Enum):
    """The phase of a task's process."""

    WORKING = "working"
    #: Airflow ended it before it had the connection and the names that a cancel needs.
    KILLED_EARLY = "killed early"
    CANCELLING = "cancelling"
    #: It has cancelled its operations.
    CANCELLED = "cancelled"
    #: It has requested a deferral. From now on, its trigger decides; until that has begun, the collector.
    DEFERRED = "deferred"
    #: Airflow has decided how the task ends.
    ENDING = "ending"


class Ending:
    """Decides in a task's process whether to cancel its operations, and cancels them.

    :param task: The task that owns the operations.
    """

    def __init__(self, task: Owner) -> None:
        self.task = task
        self.phase = Phase.WORKING
        #: The task instance that runs; None before `begin`.
        self.ti: Any = None
        #: When the ``execution_timeout`` ends, in seconds since the epoch.
        self.execution_ends: float | None = None
        self._is_killed = self._has_timed_out = self._has_failed = False
        #: When a signal was first sent again, in seconds of the monotonic clock.
        self._signalled_since: float | None = None

    @property
    def dag_id(self) -> str | None:
        """The DAG's id, for the metrics; None before the task runs."""
        return getattr(self.ti, "dag_id", None)

    def begin(self, ti: Any, execution_ends: float | None) -> None:
        """Start to run a task instance. In a ``dag.test()``, a deferred task resumes in the same object."""
        self.ti, self.execution_ends, self._has_failed = ti, execution_ends, False
        if self.phase is not Phase.KILLED_EARLY:
            self.phase = Phase.WORKING

    def end_if_killed_early(self) -> None:
        """Handle a kill that came before the process could cancel; otherwise register for the end of the process.

        :raises AirflowException: If there was such a kill.
        """
        if self.phase is Phase.KILLED_EARLY:
            self._decide(Event.SIGNAL, f"{self.task.task_id} was killed")
            raise AirflowException(f"{self.task.task_id} was killed before it began.")
        process.add_listener(self)

    # What can happen

    def on_signal(self) -> None:
        """Decide whether to cancel, because Airflow ends this process (``on_kill``)."""
        if self.phase is Phase.CANCELLING and not AIRFLOW_3:  # Airflow 2's handler raises, which interrupts the cancel.
            self._cancel(f"{self.task.task_id} received a second SIGTERM", self.task.own_operations, "kill")
            return
        is_amid_timeout = self.phase is Phase.CANCELLING and self._has_timed_out
        if self.phase is not Phase.WORKING and not is_amid_timeout:
            return
        if (self._has_timed_out and not is_amid_timeout) or self._is_signalled_again():
            return
        self._is_killed = True
        self.task.stop()
        if self._is_too_early():
            return
        self.task.hook.may_reload_connection = False
        if not self._has_timed_out and self.execution_ends is not None and time.time() >= self.execution_ends:
            self.on_timeout("execution_timeout")
        else:
            self._decide(Event.SIGNAL, f"{self.task.task_id} was killed")

    def on_timeout(self, what: object) -> None:
        """Decide whether to cancel, because the task has timed out."""
        self._has_timed_out = True
        self._decide(Event.TIMEOUT, f"{self.task.task_id} timed out ({what})")

    def on_interrupt(self) -> None:
        """Cancel, because the DAG's author has pressed Ctrl-C."""
        self.task.stop()
        self._decide(Event.INTERRUPT, f"{self.task.task_id} was interrupted (Ctrl-C)")
        if self.phase is Phase.WORKING:
            self.phase = Phase.ENDING

    def on_failure(self, error: BaseException) -> None:
        """Check, when the task fails, whether a user has ended it. `on_end` decides the rest."""
        self._has_failed = True
        self.check()
        if self.ti is not None and not process.calls_before_stopping(self.ti):
            self.on_end("failed" if is_final(error, self.ti) else "up_for_retry")

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Decide whether to cancel after Airflow has decided how the task ends. Airflow calls it when the process ends.

        Airflow applies ``retries``, a retry policy and the class of the exception after ``execute`` has raised.
        """
        del component
        process.remove_listener(self)
        if self.phase is Phase.DEFERRED:
            self.on_deferral()
            return
        state = getattr(self.ti, "state", None)
        ends_as = str(getattr(state, "value", state) or "")
        # In `airflow tasks test`, Airflow sets the state up_for_retry, but never retries the task.
        is_over = ends_as == "up_for_retry" and process.is_a_task_test(self.ti)
        self.on_end("failed" if is_over else ends_as)

    def on_deferral(self) -> None:
        """Cancel if a user has ended the task just before its deferral: Airflow then refuses the deferral."""
        if self.task.cancel_on_kill and not process.is_a_dag_test(self.ti):
            self.phase = Phase.WORKING  # If a SIGTERM interrupts the request, `on_signal` decides.
            self._decide(Event.DEFERRAL)

    def on_end(self, ends_as: str) -> None:
        """Decide whether to cancel, after Airflow has decided how this try ends.

        :param ends_as: The task instance's state. A block of the author's code can fail, and the task still succeed.
        """
        if self.phase is not Phase.WORKING:
            return
        self.task.stop()
        is_followed = False
        if (ends_as != "success" or self._has_failed) and cancel_on_of(self.task) and owned_for_log(self.task):
            decision = self._decide(Event.END, f"{self.task.task_id} ended as {ends_as}", ends_as=ends_as)
            is_followed = decision.outcome is not Outcome.CANCEL and decision.standing is not Standing.OVER
        is_last = ends_as in ENDS_FOR_GOOD and not is_followed and self.task.knows_all()
        if self.phase is Phase.WORKING:
            self.phase = Phase.ENDING
            if is_last and not self.task.runs_on_after_task:
                self._note_nothing_left()
        run_on = self.phase is Phase.ENDING and self.task.resumes_operations and bool(self.task.own_operations)
        if is_last and self.ti is not None and not run_on:  # After a clear, the next try cancels those that run on.
            forget_tries(self.ti, ends_as)

    # What the task calls while it works

    def check(self) -> Decision | None:
        """Ask for the task's state, and cancel if a user has ended the task; None if that is decided already.

        Airflow 3.3 refuses a cleared task's writes, so that no record would name the operations that it has just
        started. It also does not report a user's action to a task that fails.
        """
        if self._signalled_since is not None:
            self.on_signal()
        if self.phase is not Phase.WORKING or not self.task.cancel_on_kill:
            return None
        return self._decide(Event.CHECK)

    def end_unless_own(self) -> None:
        """Ask for the task's state, at a point where a signal may have been missed.

        :raises AirflowException: If this process no longer runs the task instance. If a user has ended it, the
            operations are cancelled first.
        """
        decision = self.check()
        if decision is not None and decision.standing not in (Standing.OWN, Standing.UNKNOWN):
            raise AirflowException(
                f"{self.task.task_id} is in the state {decision.state}, no longer running; its process ends."
            )

    def end_if_killed(self) -> None:
        """End the task if Airflow sent a signal before it had operations.

        :raises AirflowException: If there was such a signal.
        """
        if self._is_killed:
            if self.phase is Phase.WORKING:
                self._decide(Event.SIGNAL, f"{self.task.task_id} was killed")
            raise AirflowException(f"{self.task.task_id} was killed before it started an operation.")

    def end_if_cancelled(self) -> None:
        """End the task if this process has cancelled its operations; the log has the results.

        :raises AirflowException: If it has cancelled them.
        """
        if self.phase is Phase.CANCELLED and not self._has_timed_out:
            raise AirflowException(f"{self.task.task_id} was killed and cancelled its operations.")

    # How it decides and acts

    def _is_too_early(self) -> bool:
        """Whether a kill comes before the process can cancel. If so, `end_if_killed_early` handles it.

        A signal handler must not read the connection while the task itself waits for an answer of Airflow. Airflow 3
        lets the task run for some more seconds.
        """
        is_too_early = AIRFLOW_3 and not self.task.hook.is_ready
        if is_too_early and self.task.cancel_on_kill:
            self.phase = Phase.KILLED_EARLY
        return is_too_early

    def _is_signalled_again(self) -> bool:
        """Send the signal again if it interrupts a request to Airflow, or a call that writes to the log.

        During these, no other request can be sent and nothing can be logged. Airflow 3's handler of SIGTERM returns, so
        that the interrupted call can end. This waits at most `SIGNALLED_AGAIN_FOR` for Airflow's answer.
        """
        now = time.monotonic()
        since = now if self._signalled_since is None else self._signalled_since
        is_patient = now < since + SIGNALLED_AGAIN_FOR
        is_again = process.is_writing_to_the_log() or (is_asking_airflow() and is_patient)
        self._signalled_since = since if is_again else None
        if is_again:
            process.resend_sigterm(SIGNALLED_AGAIN_AFTER)
        return is_again

    def _decide(self, event: Event, why: str = "", **known: Any) -> Decision:
        situation = Situation(
            event,
            has_tries_left=self.ti is not None and has_tries_left(self.ti),
            has_timed_out=self._has_timed_out,
            cancel_on=frozenset(cancel_on_of(self.task) or ()),
            **known,
        )
        # The state is no help here: `tasks test` sets up_for_retry; Airflow 2's `dag.test()` runs a "scheduled" task.
        is_tried = process.is_a_task_test(self.ti) or not process.calls_before_stopping(self.ti)
        is_certain = self.ti is None or is_tried or event in (Event.TIMEOUT, Event.INTERRUPT)
        decision = decide(situation) if is_certain else decide_by_asking(self.ti, situation, self.task.log)
        self.act(decision, why or f"{self.task.task_id} was set to {decision.state} while it was running")
        is_kept = decision.outcome is Outcome.LEAVE and (
            event is Event.SIGNAL or known.get("ends_as") == "up_for_retry"
        )
        if is_kept and (shown := owned_for_log(self.task)):
            self.task.log.warning("The next try of %s continues with %s.", self.task.task_id, shown)
        return decision

    def act(self, decision: Decision, why: str) -> None:
        """Cancel, if the decision is to cancel."""
        if decision.outcome is Outcome.CANCEL:
            self.task.cancel_late_starts()
            names = [name for name in self.task.own_operations if name not in decision.keep]
            self._cancel(why, names, decision.cause)

    def _cancel(self, why: str, names: list[str], cause: str) -> None:
        # If a next try can cancel the operations too, no detached process is started.
        is_followed = cause == "timeout" and self.ti is not None and has_tries_left(self.ti)
        with self._cancelling():
            are_over = cancel_own(self.task, why, names, cause=cause, dag_id=self.dag_id, is_followed=is_followed)
        if are_over and not is_followed and self.task.knows_all():
            self._note_nothing_left()

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        self.phase = Phase.CANCELLING
        yield
        self.phase = Phase.CANCELLED

    def _note_nothing_left(self) -> None:
        """Store that no operation needs a cancel, so that the collector sends no requests to Earth Engine."""
        try:
            if self.ti is not None and not is_asking_airflow():
                ask_airflow(lambda: note_settled(self.ti), WRITTEN_WITHIN)
        except Exception as error:  # noqa: BLE001 (Airflow may raise any exception)
            self.task.log.info("Could not store that all operations have ended; the collector will check: %s", error)
