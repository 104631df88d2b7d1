"""What this process is, and how Airflow reaches it: signals, listeners, and the trial runs of an author."""

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

#: Seconds that a collector has to take what a kill has measured: it may be in a lock that the kill has interrupted.
COLLECTED_WITHIN = 1.0


def runs_a_task(ti: Any) -> bool:
    """Whether this process runs that task, rather than a callback in the dag-processor: Airflow exports its names."""
    return bool(
        os.environ.get("AIRFLOW_CTX_TASK_ID") == ti.task_id
        and os.environ.get("AIRFLOW_CTX_DAG_RUN_ID") == ti.run_id
        and os.environ.get("AIRFLOW_CTX_DAG_ID") == ti.dag_id
    )


def threads_may_ask_airflow() -> bool:
    """Whether threads can talk to Airflow side by side: before 3.2, answers of the supervisor can get mixed up."""
    if not AIRFLOW_3:
        return True
    from airflow.sdk.execution_time import comms

    # The lock around a request and its answer. Airflow 3.0.0 has no decoder in this module.
    return hasattr(getattr(comms, "CommsDecoder", None), "_thread_lock")


def is_asking_airflow() -> bool:
    """Whether the code that a signal handler has interrupted is just asking Airflow something, as no other may then."""
    return _interrupts("airflow.sdk.execution_time.comms")


def is_writing_to_the_log() -> bool:
    """Whether the code that a signal handler has interrupted is just writing a log line of Airflow 3's.

    structlog has locked a lock then, for which a second line, written in the handler, would wait without end. The
    signal that `resend_sigterm` sends comes often there: Python switches threads where one waits for the system.
    """
    return _interrupts("structlog")


def _interrupts(module: str) -> bool:
    frame: Any = sys._getframe()  # noqa: SLF001 (the interrupted code is nowhere else)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == module or name.startswith(f"{module}."):
            return True
        frame = frame.f_back
    return False


def resend_sigterm(seconds: float) -> None:
    """Let Airflow 3 call ``on_kill`` once more, from its handler of SIGTERM, when what that has interrupted is over."""

    def tell() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    _thread.start_new_thread(tell, ())


def add_listener(listener: object) -> None:
    """Let Airflow's listener manager call an object, in this process."""
    _listener_manager().add_listener(listener)


def remove_listener(listener: object) -> None:
    """Let Airflow's listener manager call an object no more."""
    manager = _listener_manager().pm
    if manager.is_registered(listener):
        manager.unregister(listener)


def _listener_manager() -> Any:
    try:
        listening: Any = import_module("airflow.sdk.listener")
    except ImportError:
        listening = import_module("airflow.listeners.listener")
    return listening.get_listener_manager()


def tells_of_the_end(ti: Any) -> bool:
    """Whether Airflow calls `before_stopping` at the end of a task's process: not in a ``dag.test()`` of Airflow 2."""
    return AIRFLOW_3 or not is_a_dag_test(ti)


def is_a_dag_test(ti: Any) -> bool:
    """Whether ``dag.test()`` runs the task: in its own process, and then the trigger in the same."""
    if not AIRFLOW_3:
        return getattr(ti, "job_id", None) is None
    from airflow.sdk.execution_time import task_runner

    return "InProcess" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def is_a_task_test(ti: Any) -> bool:
    """Whether ``airflow tasks test`` runs the task; no other try follows then."""
    return bool(getattr(ti, "test_mode", False)) or os.environ.get("AIRFLOW_TEST_MODE") == "True"


def can_run_a_trigger(ti: Any) -> bool:
    """Whether something runs the trigger of a task that defers: not ``dag.test()`` in a notebook.

    There, an event loop runs already, and another one cannot run in the same thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return not is_a_dag_test(ti)


def is_an_inline_trigger() -> bool:
    """Whether ``dag.test()`` runs this trigger, on an event loop of its own in the process of the task."""
    running = asyncio.current_task()
    # The only sign: a trigger there has no task instance, and Airflow 2 sets nothing else.
    name = getattr(running.get_coro(), "__qualname__", "") if running else ""
    return name.startswith(("_run_inline_trigger.", "InProcessTestSupervisor.run_trigger_in_process."))


def _runs_in_triggerer() -> bool:
    """Whether this is the triggerer, whose supervisor never answers a question about several XComs."""
    from airflow.sdk.execution_time import task_runner

    return "Trigger" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def ask_airflow(question: Callable[[], T], seconds: float) -> T:
    """Return Airflow's answer to a question, or raise if it does not answer in time.

    In a ``dag.test()``, Airflow runs in this process and always answers. If a thread still asked after that time,
    it would take the connection away from the task, so there is no limit there.

    :raises TimeoutError: If there is no answer in time.
    """
    return question() if AIRFLOW_3 and is_a_dag_test(None) else run_with_timeout(question, seconds)


def run_with_timeout(look_up: Callable[[], T], seconds: float) -> T:
    """Return what a look-up returns, in a separate thread, because the answer may never come.

    It can be called in a signal handler: nothing here waits for a lock that the interrupted code may have locked.

    :raises TimeoutError: if there is no answer in time.
    """
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((look_up(), None))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is wanted)
            answers.put((None, error))

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # The system starts no more threads; or Python ends, from 3.12 on.
        work()
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"No answer within {seconds:g} s.") from None
    if error is not None:
        raise error
    return cast("T", answer)


def measured_at_its_end(on_kill: Callable[[T], None]) -> Callable[[T], None]:
    """Let an ``on_kill`` wait for no collector: what it measures is handed over when all else is done."""

    @wraps(on_kill)
    def measured(task: T) -> None:
        with interrupting():
            on_kill(task)
        if not is_flushed():
            with suppress(TimeoutError):
                run_with_timeout(flush, COLLECTED_WITHIN)

    return measured
