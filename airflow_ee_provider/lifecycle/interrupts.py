"""Ctrl-C while an author tries a DAG is a person's word: what the task holds is cancelled, and confirmed, at once.

``airflow dags test``, ``airflow tasks test`` and ``dag.test()`` run a task in the author's own process, and its trigger
on an event loop there. So Ctrl-C raises a `KeyboardInterrupt` in the task; its trigger is cancelled by the loop, which
ends. In a worker, SIGINT ends a task's process, and none of its code runs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.errors import log_errors
from airflow_ee_provider.base.process import is_a_dag_test
from airflow_ee_provider.base.time_limit import run_with_timeout
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.lifecycle.cancelling import CONFIRM_LIMITS, report_cancels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

#: Seconds that a cancel takes at most: the requests, and their confirmation.
CANCELLED_WITHIN = 60.0


class Task(Protocol):
    """What of a task is needed."""

    task_id: str
    cancel_on_kill: bool
    log: Log

    @property
    def own_operations(self) -> list[str]:
        """What it has."""

    @property
    def own_starts(self) -> list[Start]:
        """What may have been started."""

    def on_interrupt(self) -> None:
        """Start nothing more, and cancel."""


class Trigger(Protocol):
    """What of a trigger is needed."""

    operation_names: list[str]
    cancel_on_kill: bool

    @property
    def log(self) -> Log:
        """Its log."""

    @property
    def hook(self) -> EarthEngineAsyncHook:
        """Cancels."""


@contextmanager
def cancelling_on_ctrl_c(task: Task, ti: Any) -> Iterator[None]:
    """Cancel what a task holds when its author interrupts it.

    :raises AirflowFailException: in place of a `KeyboardInterrupt` on Airflow 3, which takes that for a failure like
        any other: the next try would begin, and in ``airflow tasks test`` the task would wait for one that never comes.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        cancel_for_author(task)
        if not (AIRFLOW_3 and is_a_dag_test(ti)):
            raise
        raise AirflowFailException(f"{task.task_id} was interrupted (Ctrl-C): no other try follows.") from interrupt


def cancel_for_author(task: Task) -> None:
    """Cancel what an interrupted task holds, and say what became of it, or may still run; raise nothing."""
    held = [*task.own_operations, *[start.describe() for start in task.own_starts]]
    try:
        with log_errors(task.log):
            # In a thread, which another Ctrl-C does not interrupt: it cancels for as long as the process lives.
            run_with_timeout(task.on_interrupt, CANCELLED_WITHIN)
        if held and not task.cancel_on_kill:
            _say_that_none_is_cancelled(task.log, held)
    except KeyboardInterrupt:
        _say_what_may_run(task.log, held)


async def cancel_for_author_of(trigger: Trigger) -> None:
    """Cancel what a trigger waits for whose event loop ends because its author has interrupted it."""
    names = trigger.operation_names
    if not trigger.cancel_on_kill:
        _say_that_none_is_cancelled(trigger.log, names)
        return
    trigger.log.warning("The task was interrupted (Ctrl-C); cancelling %s.", abbreviated(names))
    is_over = False
    try:
        with log_errors(trigger.log):
            results = await trigger.hook.cancel_operations(names, **CONFIRM_LIMITS)
            report_cancels(results, trigger.log, cause="kill")
        is_over = True
    finally:
        if not is_over:  # Another Ctrl-C: the loop ends amid that.
            _say_what_may_run(trigger.log, names)


def _say_that_none_is_cancelled(log: Log, held: Sequence[str]) -> None:
    log.warning("The task was interrupted (Ctrl-C), and cancel_on_kill is off: %s may still run.", abbreviated(held))


def _say_what_may_run(log: Log, held: Sequence[str]) -> None:
    log.error("Interrupted again: %s may still run.", abbreviated(held))
