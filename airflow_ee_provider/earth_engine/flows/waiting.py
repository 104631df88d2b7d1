"""Wait for the end of operations, and cancel what uses more than it may.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/get
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.errors import ComputeLimitExceededError, EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.flows.cancelling import cancel_and_confirm
from airflow_ee_provider.earth_engine.flows.effects import Flow, LogMessage, MonotonicTime, ReadOperations
from airflow_ee_provider.earth_engine.operations import all_done

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ee_provider.earth_engine.flows.reading import ReadResults
    from airflow_ee_provider.earth_engine.operation_names import OperationName
    from airflow_ee_provider.earth_engine.operations import Operation

#: Seconds between two reads of what runs, at most.
POLL_INTERVAL = 30.0

#: Seconds between the first reads, and the share of the time waited so far that is waited from then on: a short export
#: is noticed soon.
FIRST_INTERVAL, INTERVAL_GROWTH = 5.0, 0.1


@dataclass(frozen=True)
class WaitOptions:
    """How to wait: the same wherever it is done, from a task's parameters through its trigger to the flow.

    :param poll_interval: seconds between two reads, at most.
    :param stop_at_failure: end the waiting as soon as one operation has failed or was cancelled.
    :param max_eecu_seconds: compute that each operation may use before it is cancelled; None for no limit.
    """

    poll_interval: float = POLL_INTERVAL
    stop_at_failure: bool = True
    max_eecu_seconds: float | None = None

    def as_kwargs(self) -> dict[str, Any]:
        """Return what a hook's method, or a trigger, is given."""
        return asdict(self)


def wait_for_operations(
    names: Sequence[OperationName],
    options: WaitOptions,
    *,
    timeout: float | None = None,
    latest: dict[OperationName, Operation] | None = None,
    last_errors: dict[OperationName, TransientError] | None = None,
) -> Flow[list[Operation]]:
    """Read operations again and again until all have ended; returns the latest of each, in the order of ``names``.

    What has just begun is read more often. Progress is noted when it changes. A fault that passes does not end the
    waiting.

    :param timeout: seconds after which it returns although some have not ended; None for no limit.
    :param latest: what a former call left there, so that only what is new since is noted.
    :param last_errors: is filled with the errors of the operations whose last read has failed.
    :raises ComputeLimitExceededError: once Earth Engine has said what became of those that used more.
    """
    latest = {} if latest is None else latest
    last_errors = {} if last_errors is None else last_errors
    started = now = due = yield MonotonicTime()
    while True:
        unfinished = tuple(name for name in names if name not in latest or not latest[name].done)
        seen: ReadResults = yield ReadOperations(unfinished, max(0.0, due - now))
        now = yield MonotonicTime()
        if len(seen) == len(unfinished):  # Otherwise there was early news, and the others are due as before.
            due = now + min(options.poll_interval, max(FIRST_INTERVAL, (now - started) * INTERVAL_GROWTH))
        yield from _merge_and_log(seen, latest, last_errors)
        found = [latest[name] for name in names if name in latest]
        yield from _enforce_limit(found, options.max_eecu_seconds)
        if all_done(names, found):
            return found
        if options.stop_at_failure and any(operation.done and not operation.succeeded for operation in found):
            return found
        if timeout is not None:
            if now - started >= timeout:
                return found
            due = min(due, started + timeout)


def wait_for_operation(name: OperationName, options: WaitOptions, *, timeout: float | None = None) -> Flow[Operation]:
    """`wait_for_operations` for one.

    :raises TransientError: if nothing at all was heard of it in ``timeout`` seconds; the last one of them.
    """
    last_errors: dict[OperationName, TransientError] = {}
    found = yield from wait_for_operations([name], options, timeout=timeout, last_errors=last_errors)
    if not found:
        yield LogMessage(f"{name}: Nothing was heard of the operation for {timeout:g} s.", warning=True)
        raise last_errors[name]
    return found[0]


def _merge_and_log(
    seen: ReadResults, latest: dict[OperationName, Operation], last_errors: dict[OperationName, TransientError]
) -> Flow[None]:
    """Keep what was read, and note what is new."""
    for name, operation in seen.items():
        last_errors.pop(name, None)
        if isinstance(operation, TransientError):
            last_errors[name] = operation
            yield LogMessage(f"{operation} The operation is asked for again.", warning=True)
        elif isinstance(operation, EarthEngineError):
            raise operation
        else:
            if name not in latest or latest[name].progress_key != operation.progress_key:
                yield LogMessage(f"{operation.label}: {operation.describe()}")
            latest[name] = operation


def _enforce_limit(operations: Sequence[Operation], max_eecu_seconds: float | None) -> Flow[None]:
    """Cancel, and confirm, what runs and has used more compute than it may."""
    if max_eecu_seconds is None:
        return
    over = [o for o in operations if not o.done and (o.batch_eecu_usage_seconds or 0.0) > max_eecu_seconds]
    if not over:
        return
    used = ", ".join(f"{o.label} has used {o.batch_eecu_usage_seconds:g} EECU-seconds" for o in over)
    yield LogMessage(f"{used}, and {max_eecu_seconds:g} are allowed; cancelling.", warning=True)
    results = yield from cancel_and_confirm([operation.name for operation in over])
    became = "; ".join(result.describe() for result in results)
    raise ComputeLimitExceededError(
        f"{used}; {max_eecu_seconds:g} are allowed (max_eecu_seconds). What became of it: {became}.",
        remedy="Make the export smaller, or allow it more.",
    )
