"""What the hooks can do, each as a flow: which requests, in which order, and when a cancel counts.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.errors import (
    EarthEngineError,
    FailedPreconditionError,
    InvalidRequestError,
    OperationNotFoundError,
    TransientError,
)
from airflow_ee_provider.earth_engine.operations import Operation, OperationName, OperationState, check_project
from airflow_ee_provider.earth_engine.protocol import Flow, Note, Now, Request, Sleep, call, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The kinds of export that ``projects.{kind}.export`` knows.
EXPORT_KINDS = ("image", "table", "video", "videoMap", "map", "classifier")

#: Operations asked for in one page of a list, as the official client does.
PAGE_SIZE = 500

#: Seconds after which an operation that does not look cancelled is asked to cancel once more.
REPEAT_CANCEL_AFTER = 30.0


class CancelOutcome(str, Enum):
    """What became of an operation that was to be cancelled."""

    CANCELLED = "cancelled"
    ALREADY_FINISHED = "already finished"
    FINISHED_DESPITE_CANCEL = "finished despite the cancel"
    NOT_FOUND = "not found"
    STILL_CANCELLING = "still cancelling"
    ERROR = "error"

    @property
    def settled(self) -> bool:
        """Whether the operation is known not to run any more."""
        return self in (self.CANCELLED, self.ALREADY_FINISHED, self.FINISHED_DESPITE_CANCEL)


@dataclass(frozen=True)
class CancelResult:
    """One operation's outcome; ``operation`` is what Earth Engine said last, ``error`` what stood in the way."""

    name: OperationName
    outcome: CancelOutcome
    operation: Operation | None = None
    error: EarthEngineError | None = None

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot change it."""
        return self.error is not None and self.error.permanent

    def describe(self) -> str:
        """Say it in one line, for a person."""
        said = str(self.error).removeprefix(f"{self.name}: ") if self.error else ""
        said = said or (self.operation.describe() if self.operation else "")
        return f"{self.name}: {self.outcome.value}" + (f" ({said})" if said else "")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON, for XComs and a trigger's event."""
        return {
            "name": str(self.name),
            "outcome": self.outcome.value,
            "state": self.operation.state.value if self.operation else None,
            "error": str(self.error) if self.error else None,
            "permanent": self.permanent,
        }


def get_operation(name: OperationName) -> Flow[Operation]:
    """``projects.operations.get``."""
    return Operation.from_api((yield from call(Request("GET", str(name), str(name)))))


def list_operations(project: str, page_size: int = PAGE_SIZE, most: int | None = None) -> Flow[list[Operation]]:
    """``projects.operations.list``, page after page; of every user of the project.

    :param most: stop once that many are there; None for all.
    """
    subject = f"projects/{check_project(project)}"
    found: dict[OperationName, Operation] = {}
    seen: set[str] = set()
    token = ""
    while True:
        query = (("pageSize", str(page_size)), *((("pageToken", token),) if token else ()))
        page = yield from call(Request("GET", f"{subject}/operations", subject, query=query))
        found.update((o.name, o) for o in map(Operation.from_api, page.get("operations") or ()))
        seen.add(token)
        token = page.get("nextPageToken") or ""
        if not token or (most is not None and len(found) >= most):
            return list(found.values())
        if token in seen:
            raise TransientError("Earth Engine's list of operations repeats a page.", subject=subject)


def cancel_operation(name: OperationName) -> Flow[None]:
    """``projects.operations.cancel``: ask for it. That it was answered does not mean that anything is cancelled."""
    yield from call(Request("POST", f"{name}:cancel", str(name)))


def delete_operation(name: OperationName) -> Flow[None]:
    """``projects.operations.delete``: forget the operation. This does not cancel it."""
    yield from call(Request("DELETE", str(name), str(name)))


def start_export(project: str, kind: str, body: Mapping[str, Any], request_id: str | None = None) -> Flow[Operation]:
    """``projects.{kind}.export``: start an export; repeated after a lost answer only with a ``request_id``.

    :param kind: one of `EXPORT_KINDS`.
    :param body: the API's own JSON, for example an ExportImageRequest.
    :param request_id: of several requests with the same one, Earth Engine starts only the first.
    :raises InvalidRequestError: before anything is sent, if ``kind`` is not one of those.
    """
    if kind not in EXPORT_KINDS:
        raise InvalidRequestError(f"{kind!r} is not a kind of export.", remedy=f"One of {', '.join(EXPORT_KINDS)}.")
    payload = {**body, "requestId": request_id} if request_id else dict(body)
    subject = f"projects/{check_project(project)}"
    repeatable = bool(payload.get("requestId"))
    request = Request("POST", f"{subject}/{kind}:export", subject, body=encode(payload), repeatable=repeatable)
    return Operation.from_api((yield from call(request)))


def wait_for_operations(
    names: Sequence[OperationName],
    *,
    poll_interval: float,
    timeout: float | None = None,
    stop_at_failure: bool = True,
    latest: dict[OperationName, Operation] | None = None,
) -> Flow[list[Operation]]:
    """Poll ``operations.get`` until all have ended; returns the latest of each, in the order of ``names``.

    Progress is noted when it changes. A fault that passes does not end the waiting.

    :param poll_interval: seconds between two rounds.
    :param timeout: seconds after which it returns although some have not ended; None for no limit.
    :param stop_at_failure: return as soon as one has failed or was cancelled.
    :param latest: what a former call left there, so that only what is new since is noted.
    """
    latest = {} if latest is None else latest
    started = yield Now()
    while True:
        for name in names:
            if (known := latest.get(name)) and known.done:
                continue
            try:
                operation = yield from get_operation(name)
            except TransientError as error:
                yield Note(f"{error} The operation is asked for again in {poll_interval:g} s.", warning=True)
                continue
            if not known or known.milestone != operation.milestone:
                yield Note(f"{name}: {operation.describe()}")
            latest[name] = operation
        found = [latest[name] for name in names if name in latest]
        if len(found) == len(names) and all(operation.done for operation in found):
            return found
        if stop_at_failure and any(operation.done and not operation.succeeded for operation in found):
            return found
        waited = (yield Now()) - started
        if timeout is not None and waited >= timeout:
            return found
        yield Sleep(poll_interval if timeout is None else min(poll_interval, timeout - waited))


def wait_for_operation(name: OperationName, *, poll_interval: float, timeout: float | None = None) -> Flow[Operation]:
    """`wait_for_operations` for one.

    :raises TransientError: if nothing at all was heard of it in ``timeout`` seconds.
    """
    found = yield from wait_for_operations([name], poll_interval=poll_interval, timeout=timeout)
    if not found:
        raise TransientError(f"Nothing was heard of the operation for {timeout:g} s.", subject=str(name))
    return found[0]


def request_cancels(names: Iterable[OperationName]) -> Flow[list[CancelResult]]:
    """Read each operation's state and ask those that run to cancel; one's error never stops the others.

    What was asked to cancel is `STILL_CANCELLING`: only `confirm_cancels` can say more.
    """
    results = []
    for name in names:
        result = yield from _settle(name, _request_cancel(name))
        yield _note(result)
        results.append(result)
    return results


def confirm_cancels(
    results: Sequence[CancelResult], *, poll_interval: float, timeout: float
) -> Flow[list[CancelResult]]:
    """Read the operations that are still cancelling until Earth Engine says what became of them.

    A cancel is best effort, so an operation that goes on running is asked again now and then.

    :param timeout: seconds after which what has not ended stays `STILL_CANCELLING`.
    """
    latest = {result.name: result for result in results}
    started = asked = yield Now()
    while open_names := [n for n, r in latest.items() if r.outcome is CancelOutcome.STILL_CANCELLING]:
        now = yield Now()
        if now - started >= timeout:
            break
        yield Sleep(min(poll_interval, timeout - (now - started)))
        ask = now - asked >= REPEAT_CANCEL_AFTER
        asked = now if ask else asked
        for name in open_names:
            result = yield from _settle(name, _confirm_cancel(name, ask_again=ask))
            # A fault that passes is no news: the operation stays what it was, and is read again.
            if not isinstance(result.error, TransientError):
                latest[name] = result
            if result.outcome is not CancelOutcome.STILL_CANCELLING:
                yield _note(result)
    return list(latest.values())


def _settle(name: OperationName, flow: Flow[CancelResult]) -> Flow[CancelResult]:
    """Turn what a flow raises into an outcome, so that the other operations are dealt with all the same."""
    try:
        return (yield from flow)
    except OperationNotFoundError as error:
        return CancelResult(name, CancelOutcome.NOT_FOUND, error=error)
    except EarthEngineError as error:
        return CancelResult(name, CancelOutcome.ERROR, error=error)


def _request_cancel(name: OperationName) -> Flow[CancelResult]:
    operation = yield from _ask_to_cancel(name)
    outcome = CancelOutcome.ALREADY_FINISHED if operation.done else CancelOutcome.STILL_CANCELLING
    return CancelResult(name, outcome, operation)


def _confirm_cancel(name: OperationName, *, ask_again: bool) -> Flow[CancelResult]:
    operation = yield from (_ask_to_cancel(name) if ask_again else get_operation(name))
    if not operation.done:
        return CancelResult(name, CancelOutcome.STILL_CANCELLING, operation)
    outcome = CancelOutcome.CANCELLED if operation.cancelled else CancelOutcome.FINISHED_DESPITE_CANCEL
    return CancelResult(name, outcome, operation)


def _ask_to_cancel(name: OperationName) -> Flow[Operation]:
    """Ask an operation to cancel, unless it has ended or is cancelling; returns what was read of it last."""
    operation = yield from get_operation(name)
    if operation.done or operation.state is OperationState.CANCELLING:
        return operation
    try:
        yield from cancel_operation(name)
    except FailedPreconditionError as error:
        # Most likely it has ended since we read it.
        operation = yield from get_operation(name)
        if not operation.done:
            raise error from None
    return operation


def _note(result: CancelResult) -> Note:
    if result.outcome is CancelOutcome.STILL_CANCELLING:
        return Note(f"{result.name}: cancel requested; it counts as cancelled once Earth Engine says so.")
    return Note(f"{result.describe()}.", warning=not result.outcome.settled)
