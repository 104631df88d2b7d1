"""Cancel what a process leaves that is about to end: operations, and starts whose answers nobody has heard.

A start that is asked for again with its ``requestId`` names the operation, whether or not the first request came
through; so it can be cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.protocol.cancelling import (
    CANCEL_POLL_INTERVAL,
    CancelOutcome,
    CancelResult,
    confirm_cancels,
    request_cancels,
)
from airflow_ee_provider.earth_engine.protocol.effects import Flow, LogMessage, MonotonicTime, SideBySide, Sleep
from airflow_ee_provider.earth_engine.protocol.retries import attempt, within
from airflow_ee_provider.earth_engine.protocol.starting import Start, start_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName

#: Seconds after which what Earth Engine has not answered is asked again, and for which one round waits for the
#: confirmation of its cancels.
AGAIN_AFTER, ROUND = 5.0, 60.0


class Left(NamedTuple):
    """What became of it so far: of each operation, and the starts of which nothing is known still."""

    results: list[CancelResult]
    starts: list[Start]

    @property
    def unanswered(self) -> list[OperationName]:
        """The operations that Earth Engine was not heard to cancel."""
        return [result.name for result in self.results if result.unanswered]


def cancel_what_is_left(
    project: str, names: Iterable[OperationName], starts: Sequence[Start], *, timeout: float
) -> Flow[Left]:
    """Request the cancels of operations, and of what is found to be started.

    :param project: where a start names none.
    :param timeout: seconds for all of it.
    """
    until = (yield MonotonicTime()) + timeout
    unheard: list[Start] = []

    def find_and_cancel(start: Start) -> Flow[list[CancelResult]]:
        found = yield from attempt(within(start_once(project, start), until))
        if not isinstance(found, EarthEngineError):
            left = until - (yield MonotonicTime())
            return (yield from request_cancels([found.name], timeout=max(0.0, left)))
        if isinstance(found, TransientError) and not isinstance(found, QueueFullError):
            unheard.append(start)
            yield LogMessage(f"{start.describe()} may have been started, and may run: {found}", warning=True)
        return []

    flows = [request_cancels(names, timeout=timeout), *map(find_and_cancel, starts)]
    groups: list[list[CancelResult]] = yield SideBySide(flows)
    return Left([result for group in groups for result in group], unheard)


def cancel_until_confirmed(
    project: str, names: Iterable[OperationName], starts: Sequence[Start], *, timeout: float
) -> Flow[None]:
    """`cancel_what_is_left`, again and again while Earth Engine does not answer, and until it confirms.

    :param timeout: seconds for all of it.
    """
    until = (yield MonotonicTime()) + timeout
    while (seconds := until - (yield MonotonicTime())) > 0:
        left = yield from cancel_what_is_left(project, names, starts, timeout=seconds)
        seconds = max(0.0, until - (yield MonotonicTime()))
        results = yield from confirm_cancels(
            left.results, poll_interval=CANCEL_POLL_INTERVAL, timeout=min(ROUND, seconds)
        )
        open_results = [r for r in results if r.unanswered or r.outcome is CancelOutcome.STILL_CANCELLING]
        names, starts = [result.name for result in open_results], left.starts
        if not names and not starts:
            return
        yield Sleep(AGAIN_AFTER)
