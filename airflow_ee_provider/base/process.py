"""The current process: what Airflow runs in it, its signals and listeners, and requests to Airflow."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from functools import wraps
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.model.metrics import flush, interrupting, is_flushed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: How long an ``on_kill`` waits for the metrics backend to accept its measurements, in seconds. The code that the kill
#: has interrupted may have locked the backend.
COLLECTED_WITHIN = 1.0


def runs_a_task(ti: Any) -> bool:
    """Whether this process runs the task, and is not a callback's process: Airflow exports the task's ids in it."""
    return bool(
        os.environ.get("AIRFLOW_CTX_TASK_ID") == ti.task_id
        and os.environ.get("AIRFLOW_CTX_DAG_RUN_ID") == ti.run_id
        and os.environ.get("AIRFLOW_CTX_DAG_ID") == ti.dag_id
    )


def threads_may_ask_airflow() -> bool:
    """Whether several threads can send requests to Airflow at the same time.

    In Airflow 3.0 and 3.1, a thread can get the supervisor's response to another thread's request.
    """
    if not AIRFLOW_3:
        return True
    from airflow.sdk.execution_time import comms

    # This lock protects a request and its response. Airflow 3.0.0 has no CommsDecoder in this module.
    return hasattr(getattr(comms, "CommsDecoder", None), "_thread_lock")


def is_asking_airflow() -> bool:
    """Whether a signal handler has interrupted a request to Airflow. The handler must then send no other request."""
    return _interrupts("airflow.sdk.execution_time.comms")


def is_writing_to_the_log() -> bool:
    """Whether a signal handler has interrupted a call that writes a log line in Airflow 3.

    Such a call has locked a lock of structlog. If the handler writes a line too, it waits for the lock forever. The
    signal from `resend_sigterm` often arrives in such a call: it waits for the system, so Python switches threads.
    """
    return _interrupts("structlog")


def _interrupts(module: str) -> bool:
    frame: Any = sys._getframe()  # noqa: SLF001 (only the stack shows the interrupted code)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == module or name.startswith(f"{module}."):
            return True
        frame = frame.f_back
    return False


def resend_sigterm(seconds: float) -> None:
    """Send SIGTERM to this process again after some seconds, so that Airflow 3's handler calls ``on_kill`` again.

    By then, the code that the first signal interrupted may have ended.
    """

    def tell() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    _thread.start_new_thread(tell, ())


def add_listener(listener: object) -> None:
    """Register a listener with Airflow's listener manager in this process."""
    _listener_manager().add_listener(listener)


def remove_listener(listener: object) -> None:
    """Unregister a listener from Airflow's listener manager, if it is registered."""
    manager = _listener_manager().pm
    if manager.is_registered(listener):
        manager.unregister(listener)


def _listener_manager() -> Any:
    try:
        listening: Any = import_module("airflow.sdk.listener")
    except ImportError:
        listening = import_module("airflow.listeners.listener")
    return listening.get_listener_manager()


def calls_before_stopping(ti: Any) -> bool:
    """Whether Airflow calls `before_stopping` when a task's process ends. A ``dag.test()`` of Airflow 2 does not."""
    return AIRFLOW_3 or not is_a_dag_test(ti)


def is_a_dag_test(ti: Any) -> bool:
    """Whether ``dag.test()`` runs the task. It runs the task, and then the task's trigger, in its own process."""
    if not AIRFLOW_3:
        return getattr(ti, "job_id", None) is None
    from airflow.sdk.execution_time import task_runner

    return "InProcess" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def is_a_task_test(ti: Any) -> bool:
    """Whether ``airflow tasks test`` runs the task. It never starts another try."""
    return bool(getattr(ti, "test_mode", False)) or os.environ.get("AIRFLOW_TEST_MODE") == "True"


def can_run_a_trigger(ti: Any) -> bool:
    """Whether the trigger of a task that defers can run. It cannot in a ``dag.test()`` in a notebook.

    A notebook already runs an event loop, and a thread cannot run two.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return not is_a_dag_test(ti)


def is_an_inline_trigger() -> bool:
    """Whether ``dag.test()`` runs this trigger, on an event loop in the task's process."""
    running = asyncio.current_task()
    # Only the coroutine's name shows it: such a trigger has no task instance, and Airflow 2 sets nothing else.
    name = getattr(running.get_coro(), "__qualname__", "") if running else ""
    return name.startswith(("_run_inline_trigger.", "InProcessTestSupervisor.run_trigger_in_process."))


def _runs_in_triggerer() -> bool:
    """Whether this process is the triggerer. Its supervisor never answers a request for several XComs."""
    from airflow.sdk.execution_time import task_runner

    return "Trigger" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def ask_airflow(question: Callable[[], T], seconds: float) -> T:
    """Send a request to Airflow and return the response.

    In a ``dag.test()`` of Airflow 3, Airflow runs in this process and always answers, so there is no time limit. A
    thread that still sent its request after the limit would use the connection that the task needs.

    :raises TimeoutError: If Airflow does not answer in time.
    """
    return question() if AIRFLOW_3 and is_a_dag_test(None) else run_with_timeout(question, seconds)


def run_with_timeout(look_up: Callable[[], T], seconds: float) -> T:
    """Call a function in a separate thread and return its result, because the function may never return.

    A signal handler can call this: it waits for no lock that the interrupted code may have locked.

    :raises TimeoutError: If the function does not return in time.
    """
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((look_up(), None))
        except BaseException as error:  # noqa: BLE001 (the calling thread raises it)
            answers.put((None, error))

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # The system starts no more threads; or, from 3.12 on, Python is exiting.
        work()
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"No answer within {seconds:g} s.") from None
    if error is not None:
        raise error
    return cast("T", answer)


def measured_at_its_end(on_kill: Callable[[T], None]) -> Callable[[T], None]:
    """Make an ``on_kill`` send its measurements to the metrics backend only when all its other work is done."""

    @wraps(on_kill)
    def measured(task: T) -> None:
        with interrupting():
            on_kill(task)
        if not is_flushed():
            with suppress(TimeoutError):
                run_with_timeout(flush, COLLECTED_WITHIN)

    return measured
