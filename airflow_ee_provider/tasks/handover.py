"""From a task's process to its trigger: an operation has an owner all the time.

Between the end of a task's process and the first step of its trigger nobody can be told of a kill: Airflow refuses a
deferral whose task a user has marked meanwhile, and forgets a trigger that has not begun. So the process stays for
another moment, until the trigger has written down that it has taken over, and cancels if Airflow says that the task
does not wait any more.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.listeners import hookimpl

from airflow_ee_provider import airflow_versions
from airflow_ee_provider.tasks.in_time import in_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.client.drivers import Log

#: The XCom's key under which a trigger writes down which deferral it has taken over.
TAKEN_OVER_KEY = "earth_engine_taken_over"

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

#: States in which a task that is not deferred any more still wants its operations: its next try goes on with them.
_STILL_WANTED = ("running", "up_for_retry", "up_for_reschedule")


class Handover:
    """What a task's process still does after its deferral: wait until the trigger has taken over, or cancel.

    :param ti: the task instance.
    :param cancel: cancels, because the task is not wanted any more.
    """

    def __init__(self, ti: Any, cancel: Callable[[str], None], log: Log) -> None:
        self.token = uuid4().hex
        self._ti, self._cancel, self._log = ti, cancel, log
        self._over = False

    def state_before(self) -> str:
        """Return the task's state in the last moment before the deferral: ``running``, or what it has become meanwhile.

        Airflow tells a process some seconds later that somebody has ended its task. What is not known is ``running``.
        """
        try:
            state, run_goes_on = airflow_versions.own_state(self._ti), airflow_versions.run_goes_on(self._ti)
        except Exception as error:  # noqa: BLE001 (whatever it is: who does not know must leave it alone)
            self._log.info("Whether the task is still wanted is not known: %s", error)
            return "running"
        return state if state != "running" or run_goes_on else "of a run that has ended"

    def begin(self) -> None:
        """Let Airflow call `before_stopping` when this process is about to end."""
        airflow_versions.add_listener(self)

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Wait for the trigger, or cancel; called by Airflow, with whatever it has made of the deferral."""
        del component
        if self._over:
            return
        self._over = True
        began = heard = time.monotonic()
        problem: Exception | None = None
        try:
            while (now := time.monotonic()) < min(began + PATIENCE, heard + HEARD_WITHIN):
                try:
                    if not self._is_pending(heard + HEARD_WITHIN - now):
                        return
                    heard, problem = now, None
                except Exception as error:  # noqa: BLE001 (Airflow is too busy, or away: it is asked again)
                    problem = error
                time.sleep(INTERVAL)
        except BaseException:  # Airflow 2 ends a process that stays for long.
            with suppress(Exception):
                self._is_pending(HEARD_WITHIN)
            raise
        if problem is None:
            self._log.info("No triggerer has begun to wait for the operations in %g s; one will.", PATIENCE)
        else:  # Who does not know must leave them alone.
            self._log.warning("Whether the triggerer has taken the operations over is not known: %s", problem)

    def _is_pending(self, seconds: float) -> bool:
        """Whether the trigger has still to begin; cancels if the task does not wait for it any more.

        :param seconds: in which Airflow has to answer.
        """
        state, run_goes_on, is_taken_over = in_time(self._look, seconds)
        if state == "deferred" and run_goes_on:
            return not is_taken_over
        if state == "deferred":  # On SQLite, a deferral can overwrite what the end of the run has made of the task.
            self._cancel("The task is deferred, and its run has ended")
        elif state not in _STILL_WANTED and not is_taken_over:
            self._cancel(f"The task is {state}, and its trigger has not begun")
        return False

    def _look(self) -> tuple[str, bool, bool]:
        """Ask Airflow for the task's state, whether its run goes on, and whether the trigger has taken over."""
        return airflow_versions.own_state(self._ti), airflow_versions.run_goes_on(self._ti), self._is_taken_over()

    def _is_taken_over(self) -> bool:
        ti = self._ti
        return bool(airflow_versions.xcom(TAKEN_OVER_KEY, ti.dag_id, ti.run_id, ti.task_id, ti.map_index) == self.token)


def take_over(ti: Any, token: str) -> None:
    """Write down, in the triggerer, that a trigger has begun: from now on, Airflow tells it of a kill."""
    airflow_versions.set_xcom(TAKEN_OVER_KEY, token, ti)
