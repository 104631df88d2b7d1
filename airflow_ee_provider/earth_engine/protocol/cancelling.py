"""Cancel operations and confirm each cancel; the outcomes.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/cancel
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import (
    EarthEngineError,
    FailedPreconditionError,
    OperationNotFoundError,
    TransientError,
)
from airflow_ee_provider.earth_engine.model.log_text import count_by, is_short_list, truncated_lines
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.earth_engine.protocol.api_methods import cancel_operation, get_operation
from airflow_ee_provider.earth_engine.protocol.effects import (
    Flow,
    LogMessage,
    MonotonicTime,
    ReadOperations,
    SideBySide,
)
from airflow_ee_provider.earth_engine.protocol.retries import attempt, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.results import CancelDict

#: Seconds between two polls of operations that are cancelling, and for a cancel to be confirmed.
CANCEL_POLL_INTERVAL, CANCEL_TIMEOUT = 5.0, 600.0

#: The share of that time for reading which operations run. Operations not read by then are cancelled all the same.
READING_SHARE = 0.125

#: Seconds until the first poll; the interval then doubles, because most cancels take seconds.
FIRST_INTERVAL = 1.0

#: Seconds after which the cancel of an operation is requested again.
REPEAT_CANCEL_AFTER = 30.0


class CancelOutcome(str, Enum):
    """The outcome of a cancel."""

    #: Earth Engine has confirmed the cancel.
    CANCELLED = "CANCELLED"
    #: The operation had ended before the request.
    ALREADY_FINISHED = "ALREADY_FINISHED"
    #: Earth Engine accepted the request, and the operation succeeded or failed before the cancel took effect.
    FINISHED_DESPITE_CANCEL = "FINISHED_DESPITE_CANCEL"
    #: Earth Engine does not know the operation.
    NOT_FOUND = "NOT_FOUND"
    #: Earth Engine accepted the request and has not confirmed the cancel yet.
    STILL_CANCELLING = "STILL_CANCELLING"
    #: The request failed; the operation may still run.
    ERROR = "ERROR"
    #: A dry run of the stale-operations operator selected the operation.
    WOULD_BE_CANCELLED = "WOULD_BE_CANCELLED"

    @property
    def text(self) -> str:
        """For a person: ``finished despite cancel``."""
        return self.value.lower().replace("_", " ")

    @property
    def has_ended(self) -> bool:
        """Whether the operation has ended."""
        return self in (self.CANCELLED, self.ALREADY_FINISHED, self.FINISHED_DESPITE_CANCEL)

    def is_fine(self, *, not_found_ok: bool) -> bool:
        """Whether the operation needs no further cancel.

        :param not_found_ok: Whether that includes an operation that Earth Engine does not know.
        """
        return self.has_ended or (not_found_ok and self is CancelOutcome.NOT_FOUND)


@dataclass(frozen=True)
class CancelResult:
    """One operation's outcome, with the operation as Earth Engine last returned it, and the error if there was one."""

    name: OperationName
    outcome: CancelOutcome
    operation: Operation | None = None
    error: EarthEngineError | None = None

    @property
    def permanent(self) -> bool:
        """Whether a retry cannot change the outcome."""
        return self.error is not None and self.error.permanent

    @property
    def unanswered(self) -> bool:
        """Whether Earth Engine did not answer, so that a retry may help."""
        return isinstance(self.error, TransientError)

    def describe(self) -> str:
        """Return the outcome as one line of a log."""
        said = str(self.error).removeprefix(f"{self.name}: ") if self.error else ""
        said = said or (self.operation.describe() if self.operation else "")
        called = self.operation.label if self.operation else str(self.name)
        return f"{called}: {self.outcome.text}" + (f" ({said})" if said else "")

    def as_dict(self) -> CancelDict:
        """Return it as plain JSON, for XComs and a trigger's event."""
        return {
            "name": str(self.name),
            "description": self.operation.description if self.operation else "",
            "reason": "",
            "outcome": self.outcome.value,
            "state": self.operation.state.value if self.operation else None,
            "error": self.error.as_dict() if self.error else None,
            "permanent": self.permanent,
        }


def cancel_and_confirm(
    names: Iterable[OperationName],
    *,
    poll_interval: float = CANCEL_POLL_INTERVAL,
    timeout: float = CANCEL_TIMEOUT,
) -> Flow[list[CancelResult]]:
    """Request all cancels, then wait until Earth Engine confirms each; raises nothing."""
    results = yield from request_cancels(names, timeout=timeout)
    return (yield from confirm_cancels(results, poll_interval=poll_interval, timeout=timeout))


def request_cancels(names: Iterable[OperationName], *, timeout: float = CANCEL_TIMEOUT) -> Flow[list[CancelResult]]:
    """Read the operations' states and request the cancels of those that run. An error does not stop the others.

    Their outcome is `STILL_CANCELLING` until `confirm_cancels` has read them. Operations that cannot be read in time
    are cancelled without being read.

    :param timeout: Seconds for all requests; no wait that Earth Engine asks for exceeds them.
    """
    names = list(names)
    until = (yield MonotonicTime()) + timeout
    seen = yield ReadOperations(tuple(names), within=timeout * READING_SHARE)
    results: list[CancelResult] = yield SideBySide([_request_cancel(name, seen.get(name), until) for name in names])
    yield from _log(results, len(names))
    return results


def confirm_cancels(
    results: Sequence[CancelResult], *, poll_interval: float, timeout: float
) -> Flow[list[CancelResult]]:
    """Read the operations that are still cancelling until Earth Engine confirms the cancels.

    A cancel is best effort, so it is requested again now and then while the operation keeps running.

    :param timeout: Seconds after which the outcome of unconfirmed cancels stays `STILL_CANCELLING`.
    """
    latest = {result.name: result for result in results}
    interval = FIRST_INTERVAL
    started = asked = yield MonotonicTime()
    while open_names := [n for n, r in latest.items() if r.outcome is CancelOutcome.STILL_CANCELLING]:
        now = yield MonotonicTime()
        if now - started >= timeout:
            break
        left = timeout - (now - started)
        after = min(interval, poll_interval, left)
        seen = yield ReadOperations(tuple(open_names), after, within=left - after)
        interval *= 2
        ask = now - asked >= REPEAT_CANCEL_AFTER
        asked = now if ask else asked
        # A transient error changes nothing: the operation keeps its last result, and is read again.
        news = {name: found for name, found in seen.items() if not isinstance(found, TransientError)}
        confirmed: list[CancelResult] = yield SideBySide(
            [_confirm_cancel(*item, started + timeout, ask_again=ask) for item in news.items()]
        )
        latest.update({result.name: result for result in confirmed if not result.unanswered})
        yield from _log([r for r in confirmed if r.outcome is not CancelOutcome.STILL_CANCELLING], len(latest))
    return list(latest.values())


def _request_cancel(name: OperationName, seen: Operation | EarthEngineError | None, until: float) -> Flow[CancelResult]:
    if seen is None or isinstance(seen, TransientError):
        error = yield from attempt(within(cancel_operation(name), until))
        if error is None or isinstance(error, FailedPreconditionError):  # `confirm_cancels` reads it next.
            return CancelResult(name, CancelOutcome.STILL_CANCELLING)
        return _error_result(name, error)
    operation = yield from attempt(within(_ask_to_cancel(name, seen), until))
    if isinstance(operation, EarthEngineError):
        return _error_result(name, operation)
    if not operation.done:
        return CancelResult(name, CancelOutcome.STILL_CANCELLING, operation)
    # The operation ran when it was read. If it is cancelled now, an earlier attempt of this request has cancelled it,
    # and its response was lost.
    cancelled_meanwhile = operation.cancelled and not (isinstance(seen, Operation) and seen.done)
    return CancelResult(
        name, CancelOutcome.CANCELLED if cancelled_meanwhile else CancelOutcome.ALREADY_FINISHED, operation
    )


def _confirm_cancel(
    name: OperationName, seen: Operation | EarthEngineError, until: float, *, ask_again: bool
) -> Flow[CancelResult]:
    operation = (yield from attempt(within(_ask_to_cancel(name, seen), until))) if ask_again else seen
    if isinstance(operation, EarthEngineError):
        return _error_result(name, operation)
    if not operation.done:
        return CancelResult(name, CancelOutcome.STILL_CANCELLING, operation)
    outcome = CancelOutcome.CANCELLED if operation.cancelled else CancelOutcome.FINISHED_DESPITE_CANCEL
    return CancelResult(name, outcome, operation)


def _error_result(name: OperationName, error: EarthEngineError) -> CancelResult:
    not_found = isinstance(error, OperationNotFoundError)
    return CancelResult(name, CancelOutcome.NOT_FOUND if not_found else CancelOutcome.ERROR, error=error)


def _ask_to_cancel(name: OperationName, seen: Operation | EarthEngineError) -> Flow[Operation]:
    """Request the cancel, unless the operation has ended or is cancelling; return the operation as last read."""
    if isinstance(seen, EarthEngineError):
        raise seen
    operation = seen
    if operation.done or operation.state is OperationState.CANCELLING:
        return operation
    try:
        yield from cancel_operation(name)
    except FailedPreconditionError as error:
        # Most likely, the operation has ended since it was read, or another client has requested its cancel.
        operation = yield from get_operation(name)
        if not operation.done and operation.state is not OperationState.CANCELLING:
            raise error from None
    return operation


def ended_by_cancel(results: Iterable[CancelResult]) -> list[CancelResult]:
    """Return the results of a second attempt; operations that it found cancelled were cancelled by the first attempt.

    The first attempt's responses may have been lost, for example because no file descriptor was free for a connection.
    """
    return [
        replace(result, outcome=CancelOutcome.CANCELLED)
        if result.outcome is CancelOutcome.ALREADY_FINISHED and result.operation and result.operation.cancelled
        else result
        for result in results
    ]


def describe_results(results: Sequence[CancelResult]) -> list[str]:
    """Return the outcomes as lines: one for each of a few operations; for many, totals and those that may still run."""
    if is_short_list(len(results)):
        return [result.describe() for result in results]
    unclear = [result.describe() for result in results if not result.outcome.has_ended]
    return [f"{len(results):,} operations: {count_by(r.outcome.text for r in results)}", *truncated_lines(unclear)]


def _log(results: Sequence[CancelResult], total: int) -> Flow[None]:
    """Log the results: a line for each of a few operations, one line for many, and each error in full."""
    if results and not is_short_list(total):
        asked = {CancelOutcome.STILL_CANCELLING: "cancel requested"}
        news = count_by(asked.get(result.outcome, result.outcome.text) for result in results)
        yield LogMessage(f"Of {total:,} operations to cancel: {news}.")
    for result in results:
        if is_short_list(total) or result.outcome is CancelOutcome.ERROR:
            if result.outcome is CancelOutcome.STILL_CANCELLING:
                called = result.operation.label if result.operation else result.name
                yield LogMessage(f"{called}: cancel requested; waiting for Earth Engine's confirmation.")
            else:
                yield LogMessage(f"{result.describe()}.", warning=not result.outcome.has_ended)
