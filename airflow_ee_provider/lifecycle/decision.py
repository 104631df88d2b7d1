"""What is done with a task's operations, decided from what has happened. Pure: it asks nobody, and knows no clock.

A task's process, and its trigger, describe their situation (`Situation`), ask `decide`, and act on the answer. Nothing
is predicted here but one thing: where Airflow cannot say yet what follows a process that is told to end, a next try
does if there are tries left. The collector (`airflow_ee_provider.lifecycle`) corrects what turns out otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_ee_provider.base.task_states import ACTIVE_STATES

#: States into which only Airflow itself brings the task of a process that still runs, when it lets another try follow.
#: "cleared" is no state at all: Airflow resets to it what its scheduler has lost.
NEXT_TRY_STATES = frozenset({"cleared", "scheduled", "queued", "up_for_retry", "up_for_reschedule"})

#: States of a task whose trigger has timed out, until it has failed of that.
TIMED_OUT_STATES = frozenset({"scheduled", "queued", "running"})


class Event(str, Enum):
    """What a process or a trigger has learned, and decides about."""

    #: Airflow has told the process to end (``on_kill``): a user has acted, or its worker ends.
    SIGNAL = "signal"
    #: The task is over its time.
    TIMEOUT = "timeout"
    #: The author of a DAG has pressed Ctrl-C in a run of his own.
    INTERRUPT = "interrupt"
    #: The process has asked for its task's state in the middle of its work: before a deferral, or because it fails.
    CHECK = "check"
    #: The task is deferred, and the process waits for its trigger to begin.
    DEFERRAL = "deferral"
    #: The trigger was cancelled, or has asked for its task's state.
    TRIGGER = "trigger"
    #: Airflow has decided how the task ends, and the process is about to.
    END = "end"


class Outcome(str, Enum):
    """What is done."""

    CANCEL = "cancel"
    #: Nothing: this process, another try, the trigger, or the author needs them.
    LEAVE = "leave"
    #: Nothing yet: Airflow is asked again.
    ASK_AGAIN = "ask again"


class Standing(str, Enum):
    """Whose the task instance is, as Airflow says now."""

    #: This process's.
    OWN = "own"
    #: Nobody's before its trigger fires.
    DEFERRED = "deferred"
    #: Another try's, which follows or has begun.
    NEXT_TRY = "next try"
    #: Nobody's: it has ended, whoever has ended it.
    OVER = "over"
    #: Airflow does not say.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Situation:
    """What is known when a decision is made.

    :param state: of the task instance, as Airflow says it now; empty if it does not.
    :param is_run_active: whether its DAG run is queued or running.
    :param later_try: the operations that a later try of it has recorded.
    :param is_later_try: whether a later try has begun.
    :param ends_as: the state that Airflow has given this process's try; empty before.
    :param has_tries_left: whether Airflow lets a next try follow where this process is lost.
    :param has_timed_out: whether the task is over its time.
    :param has_trigger: whether its trigger has begun, and cancels if a user acts.
    :param may_ask_again: whether there is time to ask Airflow once more.
    :param is_user_action: whether Airflow has told a trigger that a user has acted.
    :param cancel_on: what its author wants a cancel for: ``kill``, ``failure``, ``timeout``.
    """

    event: Event
    state: str = ""
    is_run_active: bool = True
    later_try: frozenset[str] = frozenset()
    is_later_try: bool = False
    ends_as: str = ""
    has_tries_left: bool = False
    has_timed_out: bool = False
    has_trigger: bool = False
    may_ask_again: bool = False
    is_user_action: bool = False
    cancel_on: frozenset[str] = frozenset({"kill", "failure", "timeout"})

    @property
    def standing(self) -> Standing:
        """Whose the task instance is now."""
        if not self.state:
            return Standing.UNKNOWN
        if self.is_later_try and self.state in ACTIVE_STATES:
            return Standing.NEXT_TRY
        if self.state in ("running", "deferred") and not self.is_run_active:
            return Standing.OVER  # On SQLite, a late write can bring back what the end of its run has ended.
        if self.state in ("running", "deferred"):
            return Standing.OWN if self.state == "running" else Standing.DEFERRED
        return Standing.NEXT_TRY if self.state in NEXT_TRY_STATES else Standing.OVER


@dataclass(frozen=True)
class Decision:
    """What is done, and why.

    :param cause: of a cancel: ``kill``, ``failure`` or ``timeout``.
    :param state: of the task instance, as Airflow has said; empty if it has not.
    :param keep: operations that are not cancelled all the same: a later try has recorded them.
    """

    outcome: Outcome
    standing: Standing = Standing.UNKNOWN
    cause: str = "kill"
    state: str = ""
    keep: frozenset[str] = frozenset()


def decide(situation: Situation) -> Decision:
    """Return what is to be done with the operations of a process, or of a trigger."""
    cause = _cause(situation)
    outcome = _RULES[situation.event](situation)
    if outcome is Outcome.CANCEL and cause not in situation.cancel_on:
        outcome = Outcome.LEAVE
    return Decision(outcome, situation.standing, cause, situation.state, situation.later_try)


def _cause(situation: Situation) -> str:
    """Return what its author is asked about: a timeout and a failure are the task's own, all else is somebody's act."""
    if situation.event is Event.TIMEOUT:
        return "timeout"
    if situation.event is Event.END and situation.ends_as in _ENDS_FOR_GOOD and not _is_somebodys_act(situation):
        return "timeout" if situation.has_timed_out else "failure"
    return "kill"


#: As what a try ends after which Airflow lets none follow.
_ENDS_FOR_GOOD = ("failed", "skipped")


def _is_somebodys_act(situation: Situation) -> bool:
    """Whether Airflow has another end of a task than its process has reported."""
    return situation.standing is Standing.OVER and situation.state not in ("running", situation.ends_as)


def _on_signal(situation: Situation) -> Outcome:
    standing = situation.standing
    if standing is Standing.OVER:
        return Outcome.CANCEL
    if standing in (Standing.NEXT_TRY, Standing.DEFERRED):  # It is not this process that is deferred.
        return Outcome.LEAVE
    # Nobody has ended the task, as far as is known: its worker ends. What a user does is written down before the
    # process is told; a next try that has just begun needs a moment to write down what it needs.
    if situation.may_ask_again:
        return Outcome.ASK_AGAIN
    return Outcome.LEAVE if situation.has_tries_left else Outcome.CANCEL


def _on_check(situation: Situation) -> Outcome:
    return Outcome.CANCEL if situation.standing is Standing.OVER else Outcome.LEAVE


def _on_deferral(situation: Situation) -> Outcome:
    if not situation.state:
        return Outcome.ASK_AGAIN if situation.may_ask_again else Outcome.LEAVE
    if situation.state == "deferred" and situation.is_run_active:
        return Outcome.LEAVE if situation.has_trigger else Outcome.ASK_AGAIN
    if situation.state == "deferred":  # Its run has ended, and Airflow does not cancel its trigger.
        return Outcome.CANCEL
    # A cleared task is scheduled again; where its trigger had begun, Airflow cancels that, and the trigger decides.
    is_another_trys = situation.state in ("running", "up_for_retry", "up_for_reschedule") or situation.is_later_try
    return Outcome.LEAVE if is_another_trys or situation.has_trigger else Outcome.CANCEL


def _on_trigger(situation: Situation) -> Outcome:
    if not situation.state:
        if situation.may_ask_again:
            return Outcome.ASK_AGAIN
        return Outcome.CANCEL if situation.is_user_action else Outcome.LEAVE
    # After a clear, the next try can be deferred before the trigger of the last one is cancelled.
    if situation.is_later_try:
        return Outcome.CANCEL
    states = {"deferred", *(TIMED_OUT_STATES if situation.has_timed_out else ())}
    return Outcome.LEAVE if situation.state in states else Outcome.CANCEL


def _on_end(situation: Situation) -> Outcome:
    standing = situation.standing
    if situation.ends_as in _ENDS_FOR_GOOD:
        if standing is Standing.NEXT_TRY:  # Airflow has lost sight of this process, and lets another try follow.
            return Outcome.LEAVE
        # Where Airflow is away, it has not heard of this end, and takes the process for lost.
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
