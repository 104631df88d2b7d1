"""Ask Airflow about a task instance until the answers are enough for a decision."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.process import ask_airflow, is_asking_airflow
from airflow_ee_provider.base.task_states import ACTIVE_STATES, is_run_active_now, own_state, own_try
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, decide
from airflow_ee_provider.tracking.record import TRY_KEY
from airflow_ee_provider.tracking.store import is_later, operations_of_a_later_try, recorded_by_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: How long to wait for a next try's record, between two requests, and for Airflow's answer, in seconds. Airflow sends
#: SIGKILL five seconds after SIGTERM.
LATER_TRY_BEGINS, INTERVAL, ANSWERED_WITHIN = 2.0, 0.3, 1.0

#: The limit for an answer in a process that received no SIGTERM, in seconds.
ANSWERED_AT_END = 3.0


#: States in which no try of a task needs its operations, whether Airflow or a user has set the state.
UNNEEDED_STATES = ("failed", "skipped")


def decide_by_asking(ti: Any, situation: Situation, log: Log) -> Decision:
    """Ask Airflow about a task instance, and decide. If Airflow does not answer in time, decide without its answer.

    It can be called in a signal handler, since it waits for no lock.

    :param situation: The facts that are known already.
    """
    if is_asking_airflow():  # The interrupted code still waits for Airflow's answer, so Airflow cannot be reached.
        return decide(situation)
    patience, limit = (LATER_TRY_BEGINS, ANSWERED_WITHIN) if situation.event is Event.SIGNAL else (0.0, ANSWERED_AT_END)
    latest = situation

    def look() -> Decision:
        nonlocal latest
        until = time.monotonic() + patience
        while True:
            for latest in answers(ti, situation):  # noqa: B007 (read below, if Airflow does not answer in time)
                pass
            decision = decide(replace(latest, may_ask_again=time.monotonic() < until))
            if decision.outcome is not Outcome.ASK_AGAIN:
                return decision
            time.sleep(INTERVAL)

    try:
        return ask_airflow(look, patience + limit)
    except Exception as error:  # noqa: BLE001 (Airflow may raise any exception)
        text = "Airflow did not answer all that was asked about the task; deciding without it: %s: %s"
        log.warning(text, type(error).__name__, error)  # Many socket errors have no text.
        is_enough = latest.state in UNNEEDED_STATES  # This state alone is enough.
        return decide(latest if is_enough else situation)


def answers(ti: Any, situation: Situation) -> Iterator[Situation]:
    """Ask Airflow, and yield the situation with each of its answers.

    :raises Exception: If Airflow cannot answer.
    """
    state = own_state(ti)
    yield replace(situation, state=state)
    is_run_active = state not in ("running", "deferred") or is_run_active_now(ti)
    # A try records its number before its operations: one request is enough as long as no other try has begun. An
    # earlier try whose worker was frozen can overwrite the later try's record, but not its number.
    has_begun = state in ACTIVE_STATES and _has_begun(ti)
    later_try = frozenset(operations_of_a_later_try(ti) if has_begun or state not in ACTIVE_STATES else ())
    is_later_try = has_begun or bool(later_try)
    yield replace(situation, state=state, is_run_active=is_run_active, later_try=later_try, is_later_try=is_later_try)


def _has_begun(ti: Any) -> bool:
    """Whether a later try has begun, by its number; or because Airflow 3 has deleted what this try has recorded."""
    latest = own_try(ti, TRY_KEY)
    return is_later(latest, ti) or (AIRFLOW_3 and latest is None and bool(recorded_by_process(ti)))
