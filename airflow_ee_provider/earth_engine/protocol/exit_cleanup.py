"""Cancels for a process that is about to end: of its operations, and of starts that have no answer yet.

A repeated start request with the same ``requestId`` returns the operation's name, so that it can be cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.model.log_text import abbreviated
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

#: Seconds after which unanswered requests are repeated, and for which one round waits for confirmations.
AGAIN_AFTER, ROUND = 5.0, 60.0


class Left(NamedTuple):
    """The outcomes so far, and the starts that still have no answer."""

    results: list[CancelResult]
    starts: list[Start]

    @property
    def unanswered(self) -> list[OperationName]:
        """The operations whose cancel requests have no answer."""
        return [result.name for result in self.results if result.unanswered]


def cancel_what_is_left(
    project: str, names: Iterable[OperationName], starts: Sequence[Start], *, timeout: float
) -> Flow[Left]:
    """Request the cancels of operations, and of starts that turn out to have succeeded.

    :param project: The project of starts that name none.
    :param timeout: Seconds for all requests together.
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
            yield LogMessage(
                f"{start.describe()} may have been started, and could not be cancelled: {found}", warning=True
            )
        return []

    flows = [request_cancels(names, timeout=timeout), *map(find_and_cancel, starts)]
    groups: list[list[CancelResult]] = yield SideBySide(flows)
    return Left([result for group in groups for result in group], unheard)


def cancel_until_confirmed(
    project: str, names: Iterable[OperationName], starts: Sequence[Start], *, timeout: float
) -> Flow[None]:
    """Repeat `cancel_what_is_left` until Earth Engine has confirmed all cancels.

    :param timeout: Seconds for all attempts together.
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
    shown = abbreviated([*names, *[start.describe() for start in starts]])
    yield LogMessage(f"Cancels not confirmed within {timeout:g} s; may still run: {shown}.", warning=True)
