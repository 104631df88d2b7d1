"""Hand a task's operations over from its process to its trigger, so that one of them can always cancel.

After the task's process has ended and before its trigger has begun, no code could react to a kill: Airflow refuses a
deferral if a user has marked the task meanwhile, and drops a trigger that has not begun. So the process waits until the
trigger has recorded that it has taken over. If Airflow reports meanwhile that the task is no longer deferred, the
process cancels.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.listeners import hookimpl

from airflow_ee_provider.base import process, stored_values
from airflow_ee_provider.base.process import run_with_timeout
from airflow_ee_provider.base.task_states import own_state
from airflow_ee_provider.lifecycle.decision import Decision, Event, Outcome, Situation, decide
from airflow_ee_provider.lifecycle.facts import with_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: The key of the XCom in which a trigger records the deferral that it has taken over.
TAKEN_OVER_KEY = "_earth_engine_taken_over"

#: How long a process waits for its trigger, in seconds. Airflow ends a process after `task_success_overtime`, 20 s.
PATIENCE = 15.0

#: Seconds between two checks, at first and at most, and by how many they grow.
INTERVAL, LONGEST, GROWTH = 0.5, 1.5, 0.5

#: How long the process waits without an answer from Airflow, in seconds. The trigger may have begun meanwhile, and
#: resumes the task `SETTLE` later. This process must have ended by then.
HEARD_WITHIN = 3.0

#: For so many seconds after the takeover, the trigger does not resume the task, so that the process can end and report
#: that to the scheduler first. If the scheduler gets the report too late, it treats the task as lost ("finished with
#: state success, but the state is queued").
SETTLE = 10.0


class Handover:
    """The last step of a task's process after its deferral: wait until the trigger has begun, or cancel.

    :param ti: The task instance.
    :param act: Called with the decision and its reason, if operations have to be cancelled.
    """

    def __init__(self, ti: Any, act: Callable[[Decision, str], None], log: Log) -> None:
        self.token = uuid4().hex
        self._ti, self._act, self._log = ti, act, log
        self._over = False

    def begin(self) -> None:
        """Register for Airflow's call of `before_stopping` at the end of this process."""
        process.add_listener(self)

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Wait for the trigger, or cancel. Airflow calls it even if it has refused the deferral."""
        del component
        if self._over:
            return
        self._over = True
        began = heard = time.monotonic()
        problem: Exception | None = None
        pause, asks_all = INTERVAL, True
        try:
            while (now := time.monotonic()) < min(began + PATIENCE, heard + HEARD_WITHIN):
                try:
                    if self._is_decided(heard + HEARD_WITHIN - now, asks_all=asks_all):
                        return
                    heard, problem, asks_all = now, None, False
                except Exception as error:  # noqa: BLE001 (Airflow is busy or cannot be reached: it is asked again)
                    problem = error
                time.sleep(pause)
                pause = min(LONGEST, pause + GROWTH)
            if problem is None and self._is_decided(HEARD_WITHIN, asks_all=True):
                return
        except BaseException:  # Airflow 2 ends a process that waits for long.
            with suppress(Exception):
                self._is_decided(HEARD_WITHIN, asks_all=True)
            raise
        if problem is None:
            self._log.info(
                "No triggerer has started this task's trigger within %g s. The operations keep running until one does. "
                "Check that a triggerer is running.",
                PATIENCE,
            )
        else:  # Without an answer, nothing is cancelled.
            self._log.warning(
                "Could not check whether a triggerer has started this task's trigger; the operations keep running: %s",
                problem,
            )

    def _is_decided(self, seconds: float, *, asks_all: bool) -> bool:
        """Whether this process may end, because the trigger has begun or the operations are cancelled.

        :param seconds: The limit for Airflow's answer.
        :param asks_all: Whether to ask all that can matter, also if the task still waits for its trigger.
        """
        known = run_with_timeout(partial(self._look, asks_all=asks_all), seconds)
        decision = decide(known)
        if decision.outcome is Outcome.CANCEL:
            run = "" if known.is_run_active else ", and its run has ended"
            begun = "" if known.has_trigger else ", and its trigger has not begun"
            self._act(decision, f"The task is {known.state}{run or begun}")
        return decision.outcome is not Outcome.ASK_AGAIN

    def _look(self, *, asks_all: bool) -> Situation:
        """Ask Airflow for the task's state, and whether its trigger has begun.

        While the task waits for its trigger, two requests are enough. Each one costs Airflow's API server time.
        """
        ti, known = self._ti, Situation(Event.DEFERRAL)
        token = stored_values.xcom(TAKEN_OVER_KEY, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        known = replace(known, has_trigger=token == self.token)
        if not (asks_all or known.has_trigger) and (state := own_state(ti)) == "deferred":
            return replace(known, state=state)
        return with_answers(ti, known)


def take_over(ti: Any, token: str) -> None:
    """Record, in the triggerer, that a trigger has begun. From now on, Airflow reports a kill to the trigger."""
    stored_values.set_xcom(TAKEN_OVER_KEY, token, ti)
