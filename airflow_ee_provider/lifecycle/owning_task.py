"""What a task does with operations that it owns: it records them, and cancels them when nobody needs them any more.

`lifecycle.decision` decides what is cancelled, and `lifecycle.acting` cancels it. The facts that a process keeps
for that are its `Phase`, whether it was told to end, and whether it is over its time.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.errors import has_tries_left, is_final
from airflow_ee_provider.base.measuring import measured_at_its_end
from airflow_ee_provider.base.process import (
    is_a_task_test,
    is_asking_airflow,
    is_writing_to_the_log,
    resend_sigterm,
    tells_of_the_end,
)
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.lifecycle.acting import ActingTask, Phase
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, Standing, decide
from airflow_ee_provider.lifecycle.facts import decide_by_asking
from airflow_ee_provider.lifecycle.process_end import ProcessEnd
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.retry_memory import forget_tries
from airflow_ee_provider.tracking.store import wanted_of_task

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: Seconds for which a signal that interrupts a question to Airflow is sent again, and between two of them.
SIGNALLED_AGAIN_FOR, SIGNALLED_AGAIN_AFTER = 1.0, 0.05

#: States in which a process lets its task end without another try.
ENDS_FOR_GOOD = ("success", "failed", "skipped")


class OwningTask(ActingTask):
    """A mixin for what owns operations."""

    if TYPE_CHECKING:
        cancel_on_kill: bool
        cancel_on_timeout: bool
        execution_timeout: timedelta | None

    _is_told_to_end = False
    _has_timed_out = False

    #: When the ``execution_timeout`` passes, in seconds since the epoch, counted from the task's start.
    _execution_ends: float | None = None

    #: Since when a signal is sent again, in seconds of the monotonic clock.
    _signalled_since: float | None = None

    def pre_execute(self, context: Context) -> None:
        """Have in the process what a kill needs, before anything else; called by Airflow in every process of the task.

        A task that resumes after a deferral is another process, and Airflow 2.11 can call `on_kill` in it before
        anything else of ours.
        """
        super().pre_execute(context)  # type: ignore[misc]
        if self._phase is not Phase.TOLD_EARLY:  # In a `dag.test()`, a task resumes in the same object.
            self._phase = Phase.WORKING
        self._ti = context["ti"]
        # A rescheduled sensor's time begins again with each poke.
        if self.execution_timeout is not None and getattr(self, "mode", None) != "reschedule":
            started = getattr(context["ti"], "start_date", None) or datetime.now(timezone.utc)
            self._execution_ends = (started + self.execution_timeout).timestamp()
        with suppress(Exception):  # It is raised again where the task can say what it was.
            self.hook.preload()
            names = wanted_of_task(context) or self.hook.account.names(self.operation_names)
            self.operation_names = [str(name) for name in names]  # Plain: a lazy sequence asks Airflow.
        if self._phase is Phase.TOLD_EARLY:
            with suppress(Exception):  # Where Airflow does not say, the collector knows.
                self.operation_names = [*self.operation_names, *self.left_by_the_last_try(context)]
            self._decide(Event.SIGNAL, f"{self.task_id} was killed")
            raise AirflowException(f"{self.task_id} was killed before it began.")
        ProcessEnd(self._ti, self.on_end).expect()

    def left_by_the_last_try(self, context: Context) -> list[str]:
        """Return what an earlier try has started, and this one has not recorded yet."""
        del context
        return []

    # What has happened

    @measured_at_its_end
    def on_kill(self) -> None:
        """Decide what is cancelled, because Airflow ends this process."""
        if self._phase is Phase.CANCELLING and not AIRFLOW_3:  # Its handler raises, which ends that half-way.
            self._cancel(f"{self.task_id} is told to end again", self.own_operations, "kill")
            return
        is_amid_timeout = self._phase is Phase.CANCELLING and self._has_timed_out
        if self._phase is not Phase.WORKING and not is_amid_timeout:
            return
        if (self._has_timed_out and not is_amid_timeout) or self._is_signalled_again():
            return
        self._is_told_to_end = True
        self.stop()
        if self._is_too_early():
            return
        self.hook.may_reload_connection = False
        if not self._has_timed_out and self._execution_ends is not None and time.time() >= self._execution_ends:
            self.on_timeout("execution_timeout")
        else:
            self._decide(Event.SIGNAL, f"{self.task_id} was killed")

    def _is_too_early(self) -> bool:
        """Whether a kill comes before the process has what a cancel needs; `pre_execute` deals with it then.

        A signal handler must not ask for the connection, amid what the task itself asks Airflow; and Airflow 3 lets the
        task run for some more seconds.
        """
        is_too_early = AIRFLOW_3 and not self.hook.is_ready
        if is_too_early and self.cancel_on_kill:
            self._phase = Phase.TOLD_EARLY
        return is_too_early

    def continue_if_own(self) -> None:
        """Ask for the task's state where a signal may have been missed.

        :raises AirflowException: if the task is not this process's any more; where a user has ended it, after the
            operations are cancelled.
        """
        decision = self.check()
        if decision is not None and decision.standing not in (Standing.OWN, Standing.UNKNOWN):
            raise AirflowException(f"{self.task_id} does not run any more, as Airflow says: this process ends.")

    def end_if_told(self) -> None:
        """Begin nothing after a signal that came before there was something to decide about.

        :raises AirflowException: if there was one.
        """
        if self._is_told_to_end:
            if self._phase is Phase.WORKING:
                self._decide(Event.SIGNAL, f"{self.task_id} was killed")
            raise AirflowException(f"{self.task_id} was killed before it has started anything.")

    def end_if_cancelled(self) -> None:
        """End with one line where this process has cancelled its operations: how they ended is in the log.

        :raises AirflowException: if it has.
        """
        if self._phase is Phase.CANCELLED and not self._has_timed_out:
            raise AirflowException(f"{self.task_id} was killed, and has cancelled its operations.")

    def _is_signalled_again(self) -> bool:
        """Let the signal come again where it interrupts a question of the task's, or a line that is being logged.

        Airflow cannot be asked amid the one, nor anything logged amid the other. Airflow 3's handler of SIGTERM
        returns, so that either ends; an answer that does not come is waited for no longer than that.
        """
        now = time.monotonic()
        since = now if self._signalled_since is None else self._signalled_since
        is_patient = now < since + SIGNALLED_AGAIN_FOR
        is_again = is_writing_to_the_log() or (is_asking_airflow() and is_patient)
        self._signalled_since = since if is_again else None
        if is_again:
            resend_sigterm(SIGNALLED_AGAIN_AFTER)
        return is_again

    def on_timeout(self, what: object) -> None:
        """Cancel what the author wants cancelled then, because the task is over its time."""
        self._has_timed_out = True
        self._decide(Event.TIMEOUT, f"{self.task_id} timed out ({what})")

    def on_interrupt(self) -> None:
        """Cancel, because the author of the DAG has pressed Ctrl-C in a run of his own."""
        self.stop()
        self._decide(Event.INTERRUPT, f"{self.task_id} was interrupted (Ctrl-C)")
        if self._phase is Phase.WORKING:
            self._phase = Phase.ENDING

    def check(self) -> Decision | None:
        """Ask for the task's state, and cancel if the task was ended meanwhile; None where all is decided already.

        Airflow 3.3 refuses what a cleared task writes down, so that nobody could find what it has just started; and
        one that fails is never told that a user has acted.
        """
        if self._signalled_since is not None:
            self.on_kill()
        if self._phase is not Phase.WORKING or not self.cancel_on_kill:
            return None
        return self._decide(Event.CHECK)

    def on_end(self, ends_as: str) -> None:
        """Decide what is cancelled, once Airflow has decided how this try ends.

        :param ends_as: the task instance's state.
        """
        if self._phase is not Phase.WORKING:
            return
        self.stop()
        is_followed = False
        if ends_as != "success" and cancel_on_of(self) and self.owned_for_log:
            decision = self._decide(Event.END, f"{self.task_id} is {ends_as}", ends_as=ends_as)
            is_followed = decision.outcome is not Outcome.CANCEL and decision.standing is not Standing.OVER
        if self._phase is Phase.WORKING:
            self._phase = Phase.ENDING
            if ends_as in ENDS_FOR_GOOD and not is_followed and not self.runs_on_after_task:
                self.note_nothing_left()
        if ends_as in ENDS_FOR_GOOD and not is_followed and self._ti is not None:
            with suppress(Exception):  # The collector deletes what is left.
                forget_tries(self._ti, ends_as)

    def on_failure(self, error: BaseException) -> None:
        """Look whether a user has ended the task, because it fails; all else is decided in `on_end`."""
        self.check()
        if self._ti is not None and not tells_of_the_end(self._ti):
            self.on_end("failed" if is_final(error, self._ti) else "up_for_retry")

    def _decide(self, event: Event, why: str = "", **known: Any) -> Decision:
        situation = Situation(
            event,
            has_tries_left=self._ti is not None and has_tries_left(self._ti),
            has_timed_out=self._has_timed_out,
            cancel_on=frozenset(cancel_on_of(self) or ()),
            **known,
        )
        # In `airflow tasks test`, Airflow says of a task that it is tried again, which never happens; a `dag.test()` of
        # Airflow 2 lets it run as "scheduled".
        is_tried = is_a_task_test(self._ti) or not tells_of_the_end(self._ti)
        is_certain = self._ti is None or is_tried or event in (Event.TIMEOUT, Event.INTERRUPT)
        decision = decide(situation) if is_certain else decide_by_asking(self._ti, situation, self.log)
        self.act(decision, why or f"{self.task_id} is {decision.state}")
        is_left = decision.outcome is Outcome.LEAVE and (
            event is Event.SIGNAL or known.get("ends_as") == "up_for_retry"
        )
        if is_left and (own := self.owned_for_log):
            self.log.warning("The next try of %s continues with %s.", self.task_id, abbreviated(own))
        return decision
