"""Signals: Ctrl-C while an author tries a DAG, and handlers that a user's function changes.

Ctrl-C is a person's decision: the task's operations are cancelled, and the cancels confirmed, at once.

``airflow dags test``, ``airflow tasks test`` and ``dag.test()`` run a task in the author's own process, and its trigger
on an event loop there. So Ctrl-C raises a `KeyboardInterrupt` in the task; its trigger is cancelled by the loop, which
ends. Between the two, only code of Airflow runs: there, the process cancels as Python reports the `KeyboardInterrupt`,
or as it ends. In a worker, SIGINT ends a task's process, and none of its code runs.
"""

from __future__ import annotations

import atexit
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.errors import log_errors
from airflow_ee_provider.base.process import is_a_dag_test, run_with_timeout, runs_a_task
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
from airflow_ee_provider.lifecycle.cancelling import CONFIRM_LIMITS, owned_for_log, report_cancels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook
    from airflow_ee_provider.lifecycle.ending import Ending

#: Seconds that a cancel takes at most: the requests, and their confirmation.
CANCELLED_WITHIN = 60.0

#: The signals with which a task is ended: Airflow sends the first, a terminal the second.
ENDING = (signal.SIGTERM, signal.SIGINT)


#: The task that waits for its trigger in this process, in a ``dag.test()``.
_deferred: Ending | None = None


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
def cancelling_on_ctrl_c(ending: Ending) -> Iterator[None]:
    """Cancel a task's operations when its author interrupts it.

    :raises AirflowFailException: in place of a `KeyboardInterrupt` on Airflow 3, which takes that for a failure like
        any other: the next try would begin, and in ``airflow tasks test`` the task would wait for one that never comes.
    """
    forget_deferral()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        cancel_for_author(ending)
        if not (AIRFLOW_3 and is_a_dag_test(ending.ti)):
            raise
        task_id = ending.task.task_id
        raise AirflowFailException(f"{task_id} was interrupted (Ctrl-C): no other try follows.") from interrupt


def cancel_for_author(ending: Ending) -> None:
    """Cancel an interrupted task's operations, and log how they ended, or that they may still run; raise nothing."""
    task = ending.task
    owned = owned_for_log(task)
    try:
        with log_errors(task.log):
            # In a thread, which another Ctrl-C does not interrupt: it cancels for as long as the process lives.
            run_with_timeout(ending.on_interrupt, CANCELLED_WITHIN)
        if owned and not task.cancel_on_kill:
            _log_that_none_is_cancelled(task.log, owned)
    except KeyboardInterrupt:
        _log_what_may_run(task.log, owned)


def cancel_if_interrupted_while_deferred(ending: Ending) -> None:
    """Cancel a deferred task's operations if its author interrupts it while neither its code nor its trigger's runs.

    In a worker, this does nothing: the task's process ends as it defers. Nor does it in a test of an author's that
    calls the operator itself, which looks like a ``dag.test()`` on Airflow 2.
    """
    global _deferred  # noqa: PLW0603 (a `dag.test()` runs one task at a time)
    if is_a_dag_test(ending.ti) and runs_a_task(ending.ti):
        forget_deferral()
        _deferred = ending
        sys.excepthook = partial(_report, sys.excepthook)
        atexit.register(_cancel_deferred)


def forget_deferral() -> None:
    """Forget the deferred task, because its own code runs again, or its trigger has cancelled."""
    global _deferred  # noqa: PLW0603 (a `dag.test()` runs one task at a time)
    _deferred = None
    atexit.unregister(_cancel_deferred)
    if isinstance(sys.excepthook, partial) and sys.excepthook.func is _report:
        [sys.excepthook] = sys.excepthook.args


def _report(report: Callable[..., None], kind: type[BaseException], *error: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _cancel_deferred()
    report(kind, *error)


def _cancel_deferred() -> None:
    ending = _deferred
    forget_deferral()
    if ending is not None:
        cancel_for_author(ending)


async def cancel_for_author_of(trigger: Trigger) -> None:
    """Cancel what a trigger waits for whose event loop ends because its author has interrupted it."""
    forget_deferral()
    names, shown = trigger.operation_names, abbreviated(trigger.operation_names)
    if not trigger.cancel_on_kill:
        _log_that_none_is_cancelled(trigger.log, shown)
        return
    trigger.log.warning("The task was interrupted (Ctrl-C); cancelling %s.", shown)
    is_over = False
    try:
        with log_errors(trigger.log):
            results = await trigger.hook.cancel_operations(names, **CONFIRM_LIMITS)
            report_cancels(results, trigger.log, cause="kill")
        is_over = True
    finally:
        if not is_over:  # Another Ctrl-C: the loop ends amid that.
            _log_what_may_run(trigger.log, shown)


def _log_that_none_is_cancelled(log: Log, names: str) -> None:
    log.warning("The task was interrupted (Ctrl-C), and cancel_on_kill is off: %s may still run.", names)


def _log_what_may_run(log: Log, names: str) -> None:
    log.error("Interrupted again: %s may still run.", names)


@contextmanager
def handlers_put_back() -> Iterator[None]:
    """Put Airflow's handlers back after a function that has changed them.

    Without Airflow's handler of SIGTERM, ``on_kill`` is not called. A function may set one of its own, to stop
    gracefully; asyncio's ``remove_signal_handler`` leaves the system's default.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread change them.
        yield
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in ENDING}
    wake_up = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wake_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        with suppress(ValueError, OSError):  # It was closed meanwhile.
            signal.set_wakeup_fd(wake_up)
