"""Decide whether to cancel a task's operations. The functions are pure: they send no request and read no clock.

A task's process and its trigger describe their `Situation`, call `decide`, and act on the `Decision`. The only
prediction is this: if Airflow ends a process and does not report yet what follows, a next try follows if there are
remaining tries. The collector (`airflow_ee_provider.collector`) corrects a wrong prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_ee_provider.base.task_states import ACTIVE_STATES

#: States that only Airflow itself sets while the task's process still runs: another try follows. "cleared" means no
#: state; the scheduler sets it for a task that it has lost.
NEXT_TRY_STATES = frozenset({"cleared", "scheduled", "queued", "up_for_retry", "up_for_reschedule"})

#: States of a task that its trigger has resumed, because it has timed out or for another reason.
RESUMED_STATES = frozenset({"scheduled", "queued", "running"})


class Event(str, Enum):
    """What has happened to a process or a trigger."""

    #: Airflow called ``on_kill``: a user has acted, or the worker is shutting down.
    SIGNAL = "signal"
    #: The task has timed out.
    TIMEOUT = "timeout"
    #: The DAG's author has pressed Ctrl-C in a local run, such as ``dag.test()``.
    INTERRUPT = "interrupt"
    #: The process checks its task's state while it works: before a deferral, or because it fails.
    CHECK = "check"
    #: The process ends after it has requested a deferral.
    DEFERRAL = "deferral"
    #: The trigger was cancelled, or checks its task's state.
    TRIGGER = "trigger"
    #: Airflow has decided how the task ends, and the process is about to end.
    END = "end"


class Outcome(str, Enum):
    """What to do with the operations."""

    CANCEL = "cancel"
    #: Do nothing: this process, another try, the trigger or the DAG's author needs the operations.
    LEAVE = "leave"
    #: Do nothing yet: ask Airflow again.
    ASK_AGAIN = "ask again"


class Standing(str, Enum):
    """Who runs the task instance, by its present state in Airflow."""

    #: This process.
    OWN = "own"
    #: The triggerer.
    DEFERRED = "deferred"
    #: Another try, which follows or has begun.
    NEXT_TRY = "next try"
    #: No process: the task instance has ended.
    OVER = "over"
    #: Airflow has not reported its state.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Situation:
    """All facts for a decision.

    :param state: The task instance's present state in Airflow; empty if Airflow has not reported it.
    :param is_run_active: Whether its DAG run is queued or running.
    :param later_try: The operations that a later try of the task has recorded.
    :param is_later_try: Whether a later try has begun.
    :param ends_as: The state in which Airflow ends this process's try; empty before the end.
    :param has_tries_left: Whether Airflow starts a next try if this process is lost.
    :param has_timed_out: Whether the task has timed out.
    :param was_resumed: Whether the trigger has resumed the task, perhaps in another triggerer that has taken it over.
    :param may_ask_again: Whether there is time to ask Airflow once more.
    :param is_user_action: Whether Airflow has reported a user's action to the trigger.
    :param cancel_on: The causes for which the DAG's author has set a cancel: ``kill``, ``failure``, ``timeout``.
    """

    event: Event
    state: str = ""
    is_run_active: bool = True
    later_try: frozenset[str] = frozenset()
    is_later_try: bool = False
    ends_as: str = ""
    has_tries_left: bool = False
    has_timed_out: bool = False
    was_resumed: bool = False
    may_ask_again: bool = False
    is_user_action: bool = False
    cancel_on: frozenset[str] = frozenset({"kill", "failure", "timeout"})

    @property
    def standing(self) -> Standing:
        """Who runs the task instance now."""
        if not self.state:
            return Standing.UNKNOWN
        if self.is_later_try and self.state in ACTIVE_STATES:
            return Standing.NEXT_TRY
        if self.state in ("running", "deferred") and not self.is_run_active:
            return Standing.OVER  # On SQLite, a late write can restore the state from before the end of the run.
        if self.state in ("running", "deferred"):
            return Standing.OWN if self.state == "running" else Standing.DEFERRED
        return Standing.NEXT_TRY if self.state in NEXT_TRY_STATES else Standing.OVER


@dataclass(frozen=True)
class Decision:
    """What to do, and why.

    :param cause: The cause of a cancel: ``kill``, ``failure`` or ``timeout``.
    :param state: The task instance's state in Airflow; empty if Airflow has not reported it.
    :param keep: Operations that must not be cancelled, since a later try has recorded them.
    """

    outcome: Outcome
    standing: Standing = Standing.UNKNOWN
    cause: str = "kill"
    state: str = ""
    keep: frozenset[str] = frozenset()


def decide(situation: Situation) -> Decision:
    """Return what to do with the operations of a process or a trigger."""
    cause = _cause(situation)
    outcome = _RULES[situation.event](situation)
    if outcome is Outcome.CANCEL and cause not in situation.cancel_on:
        outcome = Outcome.LEAVE
    return Decision(outcome, situation.standing, cause, situation.state, situation.later_try)


def _cause(situation: Situation) -> str:
    """Return the cause of a cancel: the task's own timeout or failure; otherwise a kill."""
    if situation.event is Event.TIMEOUT:
        return "timeout"
    if situation.event is Event.END and situation.ends_as in _ENDS_FOR_GOOD and not _is_somebodys_act(situation):
        return "timeout" if situation.has_timed_out else "failure"
    return "kill"


#: States of a try after which Airflow starts no other. A task can succeed although its block has failed.
_ENDS_FOR_GOOD = ("success", "failed", "skipped")


def _is_somebodys_act(situation: Situation) -> bool:
    """Whether the task's state in Airflow is another one than its process has reported."""
    return situation.standing is Standing.OVER and situation.state not in ("running", situation.ends_as)


def _on_signal(situation: Situation) -> Outcome:
    standing = situation.standing
    if standing is Standing.OVER:
        return Outcome.CANCEL
    if standing in (Standing.NEXT_TRY, Standing.DEFERRED):  # If it is deferred, then not by this process.
        return Outcome.LEAVE
    # No user has ended the task, so the worker is shutting down: Airflow stores a user's action before it sends the
    # signal. A next try that has just begun needs a moment to record its operations.
    if situation.may_ask_again:
        return Outcome.ASK_AGAIN
    return Outcome.LEAVE if situation.has_tries_left else Outcome.CANCEL


def _on_check(situation: Situation) -> Outcome:
    return Outcome.CANCEL if situation.standing is Standing.OVER else Outcome.LEAVE


def _on_deferral(situation: Situation) -> Outcome:
    if situation.state == "deferred" and not situation.is_run_active:  # Airflow does not cancel its trigger.
        return Outcome.CANCEL
    is_another_trys = situation.state in ("running", "up_for_retry", "up_for_reschedule") or situation.is_later_try
    is_its_triggers = situation.state in ("", "deferred")
    return Outcome.LEAVE if is_its_triggers or is_another_trys else Outcome.CANCEL


def _on_trigger(situation: Situation) -> Outcome:
    if not situation.state:
        if situation.may_ask_again:
            return Outcome.ASK_AGAIN
        return Outcome.CANCEL if situation.is_user_action else Outcome.LEAVE
    # After a clear, the next try can be deferred before the last try's trigger is cancelled.
    if situation.is_later_try:
        return Outcome.CANCEL
    states = {"deferred", *(RESUMED_STATES if situation.has_timed_out or situation.was_resumed else ())}
    return Outcome.LEAVE if situation.state in states else Outcome.CANCEL


def _on_end(situation: Situation) -> Outcome:
    standing = situation.standing
    if situation.ends_as in _ENDS_FOR_GOOD:
        if standing is Standing.NEXT_TRY:  # Airflow has lost this process, and starts another try.
            return Outcome.LEAVE
        # If Airflow cannot be reached, this end was not reported to it, and it treats the process as lost.
        is_followed = standing is Standing.UNKNOWN and situation.has_tries_left
        return Outcome.LEAVE if is_followed else Outcome.CANCEL
    is_ended_otherwise = standing is Standing.OVER and situation.state != situation.ends_as
    return Outcome.CANCEL if is_ended_otherwise else Outcome.LEAVE


_RULES = {
    Event.SIGNAL: _on_signal,
    Event.TIMEOUT: lambda _: Outcome.CANCEL,
    Event.INTERRUPT: lambda _: Outcome.CANCEL,
    Event.CHECK: _on_check,
    Event.DEFERRAL: _on_deferral,
    Event.TRIGGER: _on_trigger,
    Event.END: _on_end,
}
