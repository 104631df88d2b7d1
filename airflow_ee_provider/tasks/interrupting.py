"""Ctrl-C while an author tries a DAG is a person's word: what the task holds is cancelled, and confirmed, at once.

``airflow dags test``, ``airflow tasks test`` and ``dag.test()`` run a task in the author's own process, and its trigger
on an event loop there. So Ctrl-C raises a `KeyboardInterrupt` in the task; its trigger is cancelled by the loop, which
ends. In a worker, SIGINT ends a task's process, and none of its code runs.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.airflow_versions import AIRFLOW_3, is_a_dag_test
from airflow_ee_provider.earth_engine.many import some_of
from airflow_ee_provider.tasks.clean_up import CONFIRM_LIMITS, cancel_here, log_instead_of_raising, report_cancels
from airflow_ee_provider.tasks.in_time import in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_ee_provider.earth_engine.client.drivers import Log
    from airflow_ee_provider.earth_engine.flows.starting import Start
    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

#: Seconds that a cancel takes at most: the requests, and their confirmation.
CANCELLED_WITHIN = 60.0


class Task(Protocol):
    """What of a task is needed."""

    task_id: str
    cancel_on_kill: bool
    log: Log

    @property
    def hook(self) -> EarthEngineHook:
        """Cancels."""

    @property
    def own_starts(self) -> list[Start]:
        """What may have been started."""

    @property
    def dag_id_of_run(self) -> str | None:
        """The DAG's id, for the metrics."""


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
def heeding_ctrl_c(task: Task, ti: Any, stop: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Cancel what a task holds when its author interrupts it.

    :param stop: lets the task begin nothing more, and returns what it holds.
    :raises AirflowFailException: in place of a `KeyboardInterrupt` on Airflow 3, which takes that for a failure like
        any other: the next try would begin, and in ``airflow tasks test`` the task would wait for one that never comes.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not is_a_dag_test(ti):
            raise
        cancel_for_author(task, stop())
        if not AIRFLOW_3:
            raise
        raise AirflowFailException(f"{task.task_id} was interrupted (Ctrl-C): no other try follows.") from interrupt


def cancel_for_author(task: Task, names: Sequence[str]) -> None:
    """Cancel what an interrupted task holds, and say what became of it, or may still run; raise nothing."""
    starts = task.own_starts
    held = [*names, *[start.describe() for start in starts]]
    if not _is_to_cancel(task, held, is_wanted=task.cancel_on_kill):
        return
    try:
        with log_instead_of_raising(task.log):
            # In a thread, which another Ctrl-C leaves alone: the cancel goes on as long as the process does.
            results = in_time(lambda: cancel_here(task.hook, names, starts), CANCELLED_WITHIN)
            report_cancels(results, task.log, cause="kill", dag_id=task.dag_id_of_run)
    except KeyboardInterrupt:
        _say_what_may_run(task.log, held)


async def cancel_for_author_of(trigger: Trigger) -> None:
    """Cancel what a trigger waits for whose event loop ends because its author has interrupted it."""
    names = trigger.operation_names
    if not _is_to_cancel(trigger, names, is_wanted=trigger.cancel_on_kill):
        return
    is_over = False
    try:
        with log_instead_of_raising(trigger.log):
            results = await trigger.hook.cancel_operations(names, **CONFIRM_LIMITS)
            report_cancels(results, trigger.log, cause="kill")
        is_over = True
    finally:
        if not is_over:  # Another Ctrl-C: the loop ends amid that.
            _say_what_may_run(trigger.log, names)


def _is_to_cancel(holder: Any, held: Sequence[str], *, is_wanted: bool) -> bool:
    if held and is_wanted:
        holder.log.warning("The task was interrupted (Ctrl-C); cancelling %s.", some_of(held))
    elif held:
        holder.log.warning("The task was interrupted (Ctrl-C); cancel_on_kill is off: %s may still run.", some_of(held))
    return bool(held and is_wanted)


def _say_what_may_run(log: Log, held: Sequence[str]) -> None:
    log.error("Interrupted again: %s may still run.", some_of(held))
