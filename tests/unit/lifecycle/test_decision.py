"""The decision about a task's operations: all of it as a table, without a clock and without an Airflow."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, Standing, decide

CANCEL, LEAVE, ASK_AGAIN = Outcome.CANCEL, Outcome.LEAVE, Outcome.ASK_AGAIN
SIGNAL, CHECK, DEFERRAL, TRIGGER, END = Event.SIGNAL, Event.CHECK, Event.DEFERRAL, Event.TRIGGER, Event.END

#: States in which a user, the end of a run, or a failed sibling task leaves a task.
ENDED = ("failed", "success", "skipped", "restarting", "removed", "deleted", "upstream_failed")

Known = dict[str, Any]


def row(event: Event, outcome: Outcome, what: str, **known: Any) -> Any:
    return pytest.param(Situation(event, **known), outcome, id=f"{event.value}: {what}")


LATER: Known = {"later_try": frozenset({"b"}), "is_later_try": True}

ROWS = [
    # A process is told to end.
    row(SIGNAL, ASK_AGAIN, "nobody has acted, and there is time", state="running", may_ask_again=True),
    row(SIGNAL, LEAVE, "its worker ends, and a try follows", state="running", has_tries_left=True),
    row(SIGNAL, CANCEL, "its worker ends, and none follows", state="running"),
    row(SIGNAL, ASK_AGAIN, "Airflow has not answered yet", may_ask_again=True),
    row(SIGNAL, LEAVE, "Airflow is away, and a try follows", has_tries_left=True),
    row(SIGNAL, CANCEL, "Airflow is away, and none follows"),
    row(SIGNAL, CANCEL, "its run has ended, its own mark is lost", state="running", is_run_active=False),
    row(SIGNAL, LEAVE, "the next try is deferred already", state="deferred"),
    row(SIGNAL, LEAVE, "the next try is due", state="up_for_retry"),
    row(SIGNAL, LEAVE, "the scheduler has reset it", state="cleared"),
    row(SIGNAL, LEAVE, "the next try runs", state="running", **LATER),
    row(SIGNAL, LEAVE, "the next try is only known by its number", state="running", is_later_try=True),
    row(SIGNAL, CANCEL, "a user has ended the next try", state="failed", has_tries_left=True, **LATER),
    *(row(SIGNAL, CANCEL, f"somebody has made it {state}", state=state, has_tries_left=True) for state in ENDED),
    # A process checks its state during its work.
    row(CHECK, LEAVE, "it is still its own", state="running"),
    row(CHECK, LEAVE, "Airflow does not say"),
    row(CHECK, LEAVE, "the next try is due", state="up_for_retry"),
    row(CHECK, LEAVE, "the next try waits", state="deferred"),
    row(CHECK, CANCEL, "its run has ended", state="running", is_run_active=False),
    *(row(CHECK, CANCEL, f"somebody has made it {state}", state=state) for state in ENDED),
    # A process ends after its deferral.
    row(DEFERRAL, LEAVE, "the trigger waits from now on", state="deferred"),
    row(DEFERRAL, CANCEL, "the run has ended, the task is still deferred", state="deferred", is_run_active=False),
    row(DEFERRAL, LEAVE, "the next try runs", state="running"),
    row(DEFERRAL, LEAVE, "the next try is due", state="up_for_retry"),
    row(DEFERRAL, CANCEL, "it was cleared before the trigger had begun", state="scheduled"),
    row(DEFERRAL, CANCEL, "it was cleared, and its DAG is paused", state="cleared"),
    row(DEFERRAL, LEAVE, "the next try has recorded them", state="queued", **LATER),
    row(DEFERRAL, LEAVE, "Airflow does not say"),
    *(row(DEFERRAL, CANCEL, f"somebody has made it {state}", state=state) for state in ENDED),
    # A trigger is cancelled, or checks its task's state.
    row(TRIGGER, LEAVE, "the triggerer stops", state="deferred"),
    row(TRIGGER, CANCEL, "the next try after a clear is deferred", state="deferred", is_later_try=True),
    row(TRIGGER, CANCEL, "it was cleared, and its DAG is paused", state="cleared"),
    row(TRIGGER, CANCEL, "it was cleared", state="scheduled"),
    row(TRIGGER, LEAVE, "it has timed out, and the task deals with that", state="scheduled", has_timed_out=True),
    row(TRIGGER, LEAVE, "another triggerer has resumed it", state="running", was_resumed=True),
    row(TRIGGER, CANCEL, "another triggerer has resumed it, and a user marked it", state="failed", was_resumed=True),
    row(TRIGGER, CANCEL, "a user acted after its time", state="failed", has_timed_out=True),
    row(TRIGGER, ASK_AGAIN, "Airflow has not answered yet", may_ask_again=True),
    row(TRIGGER, CANCEL, "Airflow has told it of a user's act, and is away", is_user_action=True),
    row(TRIGGER, LEAVE, "Airflow is away"),
    *(row(TRIGGER, CANCEL, f"somebody has made it {state}", state=state) for state in ENDED),
    # A process ends, and Airflow has decided on its final state.
    row(END, CANCEL, "it has succeeded, although a block has failed", ends_as="success", state="success"),
    row(END, CANCEL, "it has succeeded, and was marked failed", ends_as="success", state="failed"),
    row(END, LEAVE, "a try follows", ends_as="up_for_retry", state="up_for_retry"),
    row(END, LEAVE, "a try follows, and has begun", ends_as="up_for_retry", state="running", **LATER),
    row(END, LEAVE, "a try follows, as far as is known", ends_as="up_for_retry"),
    row(END, CANCEL, "a try would follow, but for a user", ends_as="up_for_retry", state="failed"),
    row(END, CANCEL, "a try would follow, but the task was cleared", ends_as="up_for_retry", state="restarting"),
    row(END, LEAVE, "a sensor is rescheduled", ends_as="up_for_reschedule", state="up_for_reschedule"),
    row(END, CANCEL, "it has failed by its retry policy", ends_as="failed", state="running", has_tries_left=True),
    row(END, CANCEL, "it has failed for good", ends_as="failed", state="failed"),
    row(END, CANCEL, "it is skipped", ends_as="skipped", state="running", has_tries_left=True),
    row(END, CANCEL, "it has failed, as far as is known", ends_as="failed"),
    row(END, LEAVE, "Airflow is away, and takes it for lost", ends_as="failed", has_tries_left=True),
    row(END, LEAVE, "Airflow has lost sight of it", ends_as="failed", state="up_for_retry"),
    row(END, LEAVE, "the next try runs", ends_as="failed", state="running", **LATER),
    # Events that need no request to Airflow.
    row(Event.TIMEOUT, CANCEL, "it is over its time"),
    row(Event.INTERRUPT, CANCEL, "a person has pressed Ctrl-C", has_tries_left=True),
]


@pytest.mark.parametrize(("situation", "outcome"), ROWS)
def test_the_decision(situation: Situation, outcome: Outcome) -> None:
    assert decide(situation).outcome is outcome


@pytest.mark.parametrize(("situation", "outcome"), ROWS)
def test_operations_are_left_if_the_author_has_turned_off_the_cancel(situation: Situation, outcome: Outcome) -> None:
    wants_nothing = replace(situation, cancel_on=frozenset())

    assert decide(wants_nothing).outcome is (LEAVE if outcome is CANCEL else outcome)


def cause(event: Event, **known: Any) -> str:
    return decide(Situation(event, **known)).cause


def test_cause_is_a_failure_a_timeout_or_a_kill() -> None:
    assert cause(END, ends_as="failed", state="running") == "failure"
    assert cause(END, ends_as="skipped", state="skipped") == "failure"
    assert cause(END, ends_as="success", state="success") == "failure"
    assert cause(END, ends_as="failed", state="failed", has_timed_out=True) == "timeout"
    assert cause(END, ends_as="failed", state="success") == "kill"  # A user has marked it.
    assert cause(Event.TIMEOUT) == "timeout"
    assert {cause(event, state="failed") for event in (SIGNAL, CHECK, DEFERRAL, TRIGGER)} == {"kill"}


def test_a_timeout_does_not_count_as_a_failure() -> None:
    timed_out = Situation(END, ends_as="failed", state="running", has_timed_out=True)

    assert decide(replace(timed_out, cancel_on=frozenset({"failure"}))).outcome is LEAVE
    assert decide(replace(timed_out, cancel_on=frozenset({"timeout"}))).outcome is CANCEL


def test_operations_recorded_by_a_later_try_are_kept() -> None:
    assert decide(Situation(SIGNAL, state="failed", **LATER)) == Decision(
        CANCEL, Standing.OVER, "kill", "failed", frozenset("b")
    )


STATES = ("", "running", "deferred", "cleared", "scheduled", "queued", "up_for_retry", "up_for_reschedule", *ENDED)


@pytest.mark.parametrize("event", Event)
def test_every_combination_has_a_final_outcome(event: Event) -> None:
    """Without time to ask again, no outcome is ASK_AGAIN; and operations that a next try needs are left."""
    flags = (False, True)
    for state, is_later, tries, told in product(STATES, flags, flags, flags):
        known = Situation(
            event,
            state=state,
            is_later_try=is_later,
            has_tries_left=tries,
            is_user_action=told,
            ends_as="failed" if event is END else "",
        )
        decision = decide(known)
        assert decision.outcome is not ASK_AGAIN, known
        if decision.standing is Standing.NEXT_TRY and event in (SIGNAL, CHECK, END):
            assert decision.outcome is LEAVE, known
