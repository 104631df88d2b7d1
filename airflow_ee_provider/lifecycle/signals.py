"""Handle an author's Ctrl-C in a test run of a DAG, and signal handlers that a user's function changes.

Ctrl-C is the author's decision, so the process cancels the task's operations and confirms the cancels at once.

``airflow dags test``, ``airflow tasks test`` and ``dag.test()`` run a task in the author's process, and its trigger on
an event loop in the same process. While the task runs, Ctrl-C raises a `KeyboardInterrupt` in it. While the trigger
runs, Ctrl-C ends the event loop, which cancels the trigger. Between the two, only Airflow's code runs. In that case the
process cancels when Python reports the `KeyboardInterrupt`, or when the process exits. In a worker, SIGINT ends a
task's process, and no code of the task runs.
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

#: How long a cancel may take, including its confirmation, in seconds.
CANCELLED_WITHIN = 60.0

#: The signals that end a task. Airflow sends SIGTERM; a terminal sends SIGINT.
ENDING = (signal.SIGTERM, signal.SIGINT)


#: In a ``dag.test()``, the deferred task whose trigger runs in this process.
_deferred: Ending | None = None


class Trigger(Protocol):
    """The parts of a trigger that a cancel needs."""

    operation_names: list[str]
    cancel_on_kill: bool

    @property
    def log(self) -> Log:
        """The trigger's log."""

    @property
    def hook(self) -> EarthEngineAsyncHook:
        """The hook that cancels the operations."""


@contextmanager
def cancelling_on_ctrl_c(ending: Ending) -> Iterator[None]:
    """Cancel a task's operations when the DAG's author presses Ctrl-C.

    :raises AirflowFailException: Instead of the `KeyboardInterrupt` in a test run of Airflow 3. For Airflow 3, a
        `KeyboardInterrupt` is a failure: it would start the next try, and ``airflow tasks test`` would wait for a next
        try that never starts.
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
    """Cancel an interrupted task's operations, and log the results, or that they may still run. Raise no error."""
    task = ending.task
    owned = owned_for_log(task)
    try:
        with log_errors(task.log):
            # In a separate thread, which a second Ctrl-C does not interrupt. It cancels until the process ends.
            run_with_timeout(ending.on_interrupt, CANCELLED_WITHIN)
        if owned and not task.cancel_on_kill:
            _log_that_none_is_cancelled(task.log, owned)
    except KeyboardInterrupt:
        _log_what_may_run(task.log, owned)


def cancel_if_interrupted_while_deferred(ending: Ending) -> None:
    """Cancel a deferred task's operations if its author presses Ctrl-C while neither its code nor its trigger runs.

    In a worker, this does nothing, since the task's process ends when the task defers. It also does nothing in an
    author's test that calls the operator directly; on Airflow 2, `is_a_dag_test` is true for such a test.
    """
    global _deferred  # noqa: PLW0603 (a `dag.test()` runs one task at a time)
    if is_a_dag_test(ending.ti) and runs_a_task(ending.ti):
        forget_deferral()
        _deferred = ending
        sys.excepthook = partial(_report, sys.excepthook)
        atexit.register(_cancel_deferred)


def forget_deferral() -> None:
    """Forget the deferred task, because its code runs again, or because its trigger cancels the operations."""
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
    """Cancel a trigger's operations, because the DAG's author has pressed Ctrl-C and the event loop ends."""
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
        if not is_over:  # A second Ctrl-C has ended the event loop during the cancel.
            _log_what_may_run(trigger.log, shown)


def _log_that_none_is_cancelled(log: Log, names: str) -> None:
    log.warning("The task was interrupted (Ctrl-C), and cancel_on_kill is off: %s may still run.", names)


def _log_what_may_run(log: Log, names: str) -> None:
    log.error("Interrupted again: %s may still run.", names)


@contextmanager
def handlers_put_back() -> Iterator[None]:
    """Restore Airflow's signal handlers after a user's function, which may have changed them.

    Without Airflow's handler for SIGTERM, Airflow does not call ``on_kill``. A function may set another handler, to
    stop gracefully, and asyncio's ``remove_signal_handler`` sets the system's default.
    """
    if threading.current_thread() is not threading.main_thread():  # Only the main thread can change handlers.
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
        with suppress(ValueError, OSError):  # The function has closed the file descriptor.
            signal.set_wakeup_fd(wake_up)
