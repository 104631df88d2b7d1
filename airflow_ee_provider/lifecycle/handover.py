"""From a task's process to its trigger: an operation has an owner all the time.

Between the end of a task's process and the first step of its trigger nobody can be told of a kill: Airflow refuses a
deferral whose task a user has marked meanwhile, and forgets a trigger that has not begun. So the process stays for
another moment, until the trigger has written down that it has taken over, and cancels if Airflow says that the task
does not wait any more.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.listeners import hookimpl

from airflow_ee_provider.base import process, stored_values
from airflow_ee_provider.base.process import run_with_timeout
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, decide
from airflow_ee_provider.lifecycle.facts import with_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: The XCom's key under which a trigger writes down which deferral it has taken over.
TAKEN_OVER_KEY = "_earth_engine_taken_over"

#: Seconds that a process waits for its trigger: Airflow ends what stays for longer than `task_success_overtime`, 20 s.
PATIENCE = 15.0

#: Seconds between two looks.
INTERVAL = 0.3

#: Seconds that it stays without having heard from Airflow. The trigger may have begun meanwhile, and resumes the task
#: `SETTLE` later: this process must have ended by then.
HEARD_WITHIN = 3.0

#: Seconds for which a trigger that has taken over resumes no task: the process is to end, and Airflow's scheduler to
#: hear of it, before the task resumes. It takes a task for lost whose deferral it hears of too late ("finished with
#: state success, but the state is queued").
SETTLE = 10.0


class Handover:
    """What a task's process still does after its deferral: wait until the trigger has begun, or cancel.

    :param ti: the task instance.
    :param act: is given the decision, and why, where something is to be cancelled.
    """

    def __init__(self, ti: Any, act: Callable[[Decision, str], None], log: Log) -> None:
        self.token = uuid4().hex
        self._ti, self._act, self._log = ti, act, log
        self._over = False

    def begin(self) -> None:
        """Let Airflow call `before_stopping` when this process is about to end."""
        process.add_listener(self)

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Wait for the trigger, or cancel; called by Airflow, whether or not it has accepted the deferral."""
        del component
        if self._over:
            return
        self._over = True
        began = heard = time.monotonic()
        problem: Exception | None = None
        try:
            while (now := time.monotonic()) < min(began + PATIENCE, heard + HEARD_WITHIN):
                try:
                    if self._is_decided(heard + HEARD_WITHIN - now):
                        return
                    heard, problem = now, None
                except Exception as error:  # noqa: BLE001 (Airflow is too busy, or away: it is asked again)
                    problem = error
                time.sleep(INTERVAL)
        except BaseException:  # Airflow 2 ends a process that stays for long.
            with suppress(Exception):
                self._is_decided(HEARD_WITHIN)
            raise
        if problem is None:
            self._log.info("No triggerer has begun to wait for the operations in %g s; one will.", PATIENCE)
        else:  # Who does not know must leave them alone.
            self._log.warning("Airflow does not say whether the triggerer waits for the operations: %s", problem)

    def _is_decided(self, seconds: float) -> bool:
        """Whether this process may end: the trigger has begun, or the operations are cancelled.

        :param seconds: in which Airflow has to answer.
        """
        known = run_with_timeout(self._look, seconds)
        decision = decide(known)
        if decision.outcome is Outcome.CANCEL:
            run = "" if known.is_run_active else ", and its run has ended"
            begun = "" if known.has_trigger else ", and its trigger has not begun"
            self._act(decision, f"The task is {known.state}{run or begun}")
        return decision.outcome is not Outcome.ASK_AGAIN

    def _look(self) -> Situation:
        """Ask Airflow how the task stands, and whether its trigger has begun."""
        known = with_answers(self._ti, Situation(Event.DEFERRAL))
        return replace(known, has_trigger=self._is_taken_over())

    def _is_taken_over(self) -> bool:
        ti = self._ti
        return bool(stored_values.xcom(TAKEN_OVER_KEY, ti.dag_id, ti.run_id, ti.task_id, ti.map_index) == self.token)


def take_over(ti: Any, token: str) -> None:
    """Write down, in the triggerer, that a trigger has begun: from now on, Airflow tells it of a kill."""
    stored_values.set_xcom(TAKEN_OVER_KEY, token, ti)
