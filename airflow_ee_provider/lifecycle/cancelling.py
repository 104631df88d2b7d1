"""Cancel operations when a task, trigger or notifier ends, and report the results."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ee_provider.base.errors import log_errors
from airflow_ee_provider.base.process import run_with_timeout
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated, is_short_list, truncated_lines
from airflow_ee_provider.earth_engine.model.metrics import measure_cancels
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult, ended_by_cancel
from airflow_ee_provider.earth_engine.protocol.exit_cleanup import Left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


#: How often an ending task or a trigger polls for the confirmation of its cancels, and for how long, in seconds.
CONFIRM_LIMITS: dict[str, Any] = {"poll_interval": 1.0, "timeout": 20.0}

#: The most operations that a task can cancel within the five seconds that Airflow gives it, if three have passed.
MOST_IN_TIME = 150

#: How long such a process sends requests to Earth Engine, including pauses, and waits for the answers, in seconds.
ASKED_FOR, ANSWERED_WITHIN = 1.2, 1.5

#: How long to wait until the detached process has begun, in seconds.
BEGINS_WITHIN = 2.0

#: How long to read which of many operations had already ended, in seconds.
SEEN_WITHIN = 5.0


class Owner(Protocol):
    """A task that owns operations; the parts of it that are needed when it ends."""

    task_id: str
    cancel_on_kill: bool
    hook: EarthEngineHook
    log: Log

    @property
    def own_operations(self) -> list[str]:
        """The task's operations that are not known to have ended."""

    @property
    def own_starts(self) -> list[Start]:
        """Starts that Earth Engine has not answered yet."""

    #: Whether a further try continues with the operations, or cancels them, before it starts others.
    resumes_operations: bool

    def knows_all(self) -> bool:
        """Whether `own_operations` includes all that this try and earlier ones have recorded."""

    @property
    def runs_on_after_task(self) -> bool:
        """Whether the operations keep running after the task."""

    def stop(self) -> None:
        """Start no more operations."""

    def cancel_late_starts(self) -> None:
        """Cancel each operation whose start Earth Engine answers from now on."""


def cancel_own(task: Owner, why: str, names: list[str], *, cause: str, dag_id: str | None, is_followed: bool) -> bool:
    """Cancel a task's operations when it ends, and log each one's state. Errors are logged, not raised.

    :param why: The reason, for the log.
    :param cause: The cause of the cancels, for the metrics.
    :param is_followed: Whether a next try can cancel the operations too.
    :return: Whether all of them have ended.
    """
    starts = task.own_starts
    if not starts and not names:
        return False
    task.log.warning("%s; cancelling %s.", why, abbreviated([*names, *[start.describe() for start in starts]]))
    with log_errors(task.log):
        if is_followed:
            results = cancel_here(task.hook, names, starts)
        else:
            results = cancel_before_the_end(task.hook, names, task.log, starts)
        report_cancels(results, task.log, cause=cause, dag_id=dag_id)
        return all(result.outcome.is_fine(not_found_ok=True) for result in results)
    return False


def owned_for_log(task: Owner) -> str:
    """Return a task's operations and unanswered starts, for the log; empty if there are none."""
    owned = [*task.own_operations, *[start.describe() for start in task.own_starts]]
    return abbreviated(owned) if owned else ""


def cancel_here(hook: EarthEngineHook, names: Any, starts: Sequence[Start]) -> list[CancelResult]:
    """Cancel operations, and what unanswered starts may have started, in this process."""
    left = hook.cancel_what_is_left(names, starts, timeout=CONFIRM_LIMITS["timeout"])
    return _confirmed(hook, left.results, **CONFIRM_LIMITS)


def cancel_before_the_end(
    hook: EarthEngineHook,
    names: Any,
    log: Log,
    starts: Sequence[Start] = (),
    *,
    wait_for_completion: bool = True,
    poll_interval: float = CONFIRM_LIMITS["poll_interval"],
    timeout: float = CONFIRM_LIMITS["timeout"],
) -> list[CancelResult]:
    """Cancel operations in a process that Airflow may be about to kill.

    If there are many operations, or Earth Engine does not answer soon, a detached process cancels them.

    :param starts: Unanswered starts. If they have started an operation, it is cancelled too.
    :param timeout: How long to wait for the confirmation of the cancels, in seconds. Airflow sends SIGKILL 5 s (3.x) or
        ``killed_task_cleanup_time`` (60 s) after SIGTERM.
    """
    parsed = hook.account.names(names)
    left, unanswered, unheard = Left([], []), parsed, list(starts)
    is_asked = len(parsed) + len(unheard) <= MOST_IN_TIME
    if is_asked:
        with suppress(Exception):  # Also if no thread or file can be opened. The code below tries again.
            left = run_with_timeout(
                lambda: hook.cancel_what_is_left(parsed, starts, timeout=ASKED_FOR), ANSWERED_WITHIN
            )
            unanswered, unheard = left.unanswered, left.starts
    limit = timeout if wait_for_completion else 0.0
    if not (unanswered or unheard):
        return _confirmed(hook, left.results, poll_interval, limit)
    if not _is_handed_over(hook, unanswered, unheard, log):
        again = hook.cancel_what_is_left(unanswered, unheard, timeout=timeout).results
        results = {result.name: result for result in [*left.results, *(ended_by_cancel(again) if is_asked else again)]}
        return _confirmed(hook, list(results.values()), poll_interval, limit)
    results = {result.name: result for result in left.results}
    results.update((name, CancelResult(name, CancelOutcome.STILL_CANCELLING)) for name in unanswered)
    results.update((result.name, result) for result in _finished_before(hook, unanswered, limit))
    return _confirmed(hook, list(results.values()), poll_interval, limit)


def _finished_before(hook: EarthEngineHook, names: list[OperationName], timeout: float) -> list[CancelResult]:
    """Return the operations that had ended before their cancel, if Earth Engine answers in time."""
    if not timeout:
        return []
    with suppress(Exception):  # This only improves the report.
        limit = min(timeout, SEEN_WITHIN)
        seen = run_with_timeout(lambda: hook.read_operations(names, timeout=limit), limit).values()
        ended = [o for o in seen if not isinstance(o, EarthEngineError) and o.done and not o.cancelled]
        return [CancelResult(operation.name, CancelOutcome.ALREADY_FINISHED, operation) for operation in ended]
    return []


def _confirmed(
    hook: EarthEngineHook, results: list[CancelResult], poll_interval: float, timeout: float
) -> list[CancelResult]:
    """Wait until the cancels that were requested are confirmed."""
    requested = [result.name for result in results if result.outcome is CancelOutcome.STILL_CANCELLING]
    if not requested:  # Then no session is opened.
        return results
    confirmed = hook.confirm_cancels(requested, poll_interval=poll_interval, timeout=timeout)
    latest = {result.name: result for result in confirmed}
    return [latest.get(result.name, result) for result in results]


def _is_handed_over(hook: EarthEngineHook, names: list[OperationName], starts: list[Start], log: Log) -> bool:
    """Start a detached process that cancels the operations; return whether it has begun."""
    from airflow_ee_provider.earth_engine.transport.detached_cancel import TIMEOUT, cancel_in_another_process

    try:
        process = run_with_timeout(lambda: cancel_in_another_process(hook.account, names, starts), BEGINS_WITHIN)
    except Exception as error:  # noqa: BLE001 (after any error, this process cancels what it can)
        log.warning("Could not start a background process, so this process cancels what it can: %s", error)
        return False
    count = len(names) + len(starts)
    log.warning(
        "%s. The background process %s cancels them. It runs for at most %g s, or until its container ends.",
        f"{count:,} operations are too many to cancel before Airflow kills this process"
        if count > MOST_IN_TIME
        else f"No answer from Earth Engine about {abbreviated([*map(str, names), *[s.describe() for s in starts]])}",
        process,
        TIMEOUT,
    )
    return True


def report_cancels(
    results: Sequence[CancelResult], log: Log, *, cause: str, dag_id: str | None = None, not_found_ok: bool = False
) -> None:
    """Count cancels in the metrics, and log each operation that may still run as an error, with the reason.

    :param cause: The cause of the cancels, for the metrics.
    """
    measure_cancels([result.outcome for result in results], cause, dag_id)
    unclear = [result for result in results if not result.outcome.is_fine(not_found_ok=not_found_ok)]
    for line in truncated_lines([f"{result.describe()}. It may still run." for result in unclear]):
        log.error("%s", line)
    if not is_short_list(len(unclear)):
        log.error("%s of %s operations may still run.", f"{len(unclear):,}", f"{len(results):,}")
