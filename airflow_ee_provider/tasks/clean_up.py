"""What tasks, triggers and notifiers share: how a clean-up reports, and which errors Airflow is to retry."""

from __future__ import annotations

import _thread
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from airflow_ee_provider.earth_engine.errors import EarthEngineError
from airflow_ee_provider.earth_engine.flows.cancelling import CancelOutcome, CancelResult
from airflow_ee_provider.earth_engine.many import are_few, some_lines
from airflow_ee_provider.tasks.measuring import measure_cancels
from airflow_ee_provider.tasks.record_format import ACCOUNT_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_ee_provider.earth_engine.client.drivers import Log
    from airflow_ee_provider.earth_engine.operation_names import OperationName
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

T = TypeVar("T")

#: For how long a task that is about to end, or a trigger, confirms its cancels, and how often, in seconds.
CONFIRM_LIMITS: dict[str, Any] = {"poll_interval": 1.0, "timeout": 20.0}

#: Operations that are surely cancelled in the five seconds that Airflow leaves a task, of which three may have gone by.
MOST_IN_TIME = 150


def account_of(holder: object) -> dict[str, Any]:
    """Return what says in whose name a task, trigger or notifier asks: what a hook is made with."""
    return {name: _plain(getattr(holder, name)) for name in ACCOUNT_PARAMETERS}


def _plain(value: Any) -> Any:
    """Return a value that can be stored, and that asks nobody: a template can make a lazy sequence of it."""
    return value if value is None or isinstance(value, str) else list(value)


@contextmanager
def log_instead_of_raising(log: Log) -> Iterator[None]:
    """Log an error instead of raising it, so that the failure that led here stays the visible one."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (Airflow and its backends raise what they like)
        log.error("Earth Engine operations could not be cancelled and may still run: %s", error)  # noqa: TRY400


def in_time(look_up: Callable[[], T], seconds: float) -> T:
    """Return what a look-up returns, in a thread of its own: an answer that never comes must not hold the process.

    It can be called in a signal handler: nothing here waits for a lock that the interrupted code may hold.

    :raises TimeoutError: if there is no answer in time.
    """
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((look_up(), None))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is wanted)
            answers.put((None, error))

    _thread.start_new_thread(work, ())
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"There was no answer in {seconds:g} s.") from None
    if error is not None:
        raise error
    return cast("T", answer)


def cancel_before_the_end(
    hook: EarthEngineHook,
    names: Any,
    log: Log,
    *,
    wait_for_completion: bool = True,
    poll_interval: float = CONFIRM_LIMITS["poll_interval"],
    timeout: float = CONFIRM_LIMITS["timeout"],
) -> list[CancelResult]:
    """Cancel in a process that Airflow is about to kill; more than a few, in another one that outlives it.

    :param timeout: seconds for which is looked whether the cancels are confirmed; Airflow sends SIGKILL 5 s (3.x) or
        ``killed_task_cleanup_time`` (60 s) after it has told a task to end.
    """
    parsed = hook.account.names(names)
    how: dict[str, Any] = {"poll_interval": poll_interval, "timeout": timeout}
    if len(parsed) <= MOST_IN_TIME or not _is_handed_over(hook, parsed, log):
        return hook.cancel_operations(parsed, wait_for_completion=wait_for_completion, **how)
    seen = hook.read_operations(parsed)
    ended = [o for o in seen.values() if not isinstance(o, EarthEngineError) and o.done and not o.cancelled]
    results = [CancelResult(operation.name, CancelOutcome.ALREADY_FINISHED, operation) for operation in ended]
    done = {result.name for result in results}
    how["timeout"] = timeout if wait_for_completion else 0.0
    return [*results, *hook.confirm_cancels([name for name in parsed if name not in done], **how)]


def _is_handed_over(hook: EarthEngineHook, names: list[OperationName], log: Log) -> bool:
    """Let a process that outlives this one cancel operations, if it can be started."""
    from airflow_ee_provider.earth_engine.client.outliving import TIMEOUT, cancel_in_another_process

    try:
        process = cancel_in_another_process(hook.account, names)
    except Exception as error:  # noqa: BLE001 (whatever it is, this process does what it can)
        log.warning("No process could be started that outlives this one: %s", error)
        return False
    log.warning(
        "%s operations are more than can be cancelled before Airflow kills this process: the process %s, which "
        "outlives it, cancels them, for %g s at most.",
        f"{len(names):,}",
        process,
        TIMEOUT,
    )
    return True


def report_cancels(
    results: Sequence[CancelResult], log: Log, *, cause: str, dag_id: str | None = None, not_found_ok: bool = False
) -> None:
    """Count cancels, and log as an error which operations may still run, and why.

    :param cause: of the cancels, for the metrics.
    """
    measure_cancels([result.outcome for result in results], cause, dag_id)
    unclear = [result for result in results if not result.outcome.is_fine(not_found_ok=not_found_ok)]
    for line in some_lines([f"{result.describe()}. It may still run." for result in unclear]):
        log.error("%s", line)
    if not are_few(len(unclear)):
        log.error("%s of %s operations may still run.", f"{len(unclear):,}", f"{len(results):,}")


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Let Airflow retry the task after an error of Earth Engine's only where that can help."""
    try:
        yield
    except EarthEngineError as error:
        raise airflow_exception(str(error), permanent=error.permanent) from error


def airflow_exception(message: str, *, permanent: bool) -> AirflowException:
    """Return an exception after which Airflow retries the task, or not."""
    return AirflowFailException(message) if permanent else AirflowException(message)


def is_final(error: BaseException, ti: Any) -> bool:
    """Whether no other try follows an error; otherwise, what was started stays for that one to find."""
    return isinstance(error, (AirflowFailException, AirflowSkipException)) or is_last_try(ti)


def is_last_try(ti: Any) -> bool:
    """Whether Airflow does not try a task again by itself after this try."""
    return bool(ti.try_number > ti.max_tries)


def result_or_raise(event: Mapping[str, Any]) -> list[Any]:
    """Return what a trigger's event carries.

    :raises AirflowException: if that is an error; one that Airflow retries only where that can help.
    """
    if "error" in event:
        raise airflow_exception(event["error"], permanent=event["permanent"])
    result: list[Any] = event["result"]
    return result
