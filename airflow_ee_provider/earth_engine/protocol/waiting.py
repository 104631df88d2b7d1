"""Wait for operations to end, and cancel those that use more compute than allowed.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations/get
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import (
    ComputeLimitExceededError,
    EarthEngineError,
    OperationTimeoutError,
    TransientError,
)
from airflow_ee_provider.earth_engine.model.log_text import (
    abbreviated,
    count_by,
    eecu_seconds,
    is_short_list,
    summary,
    time_left,
    truncated_lines,
)
from airflow_ee_provider.earth_engine.protocol.cancelling import cancel_and_confirm, describe_results
from airflow_ee_provider.earth_engine.protocol.effects import Flow, LogMessage, MonotonicTime, ReadOperations, Sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults

#: The most seconds between two reads of operations that run.
POLL_INTERVAL = 30.0

#: The share of operations that must have ended before the log estimates the remaining time.
SHARE_FOR_ESTIMATE = 0.1

#: The first interval between reads, in seconds; and the growth of the interval, as a share of the time waited so far.
#: So the task soon notices the end of a short export.
FIRST_INTERVAL, INTERVAL_GROWTH = 5.0, 0.1


#: The tolerance for rounding errors when a share of operations is a whole number.
ROUNDED = 1e-6

#: The fewest seconds between two polls. Earth Engine allows 100 requests a second for a project and a user.
SHORTEST_POLL_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class WaitOptions:
    """How to wait. The task's parameters, its trigger and the flow have the same options.

    :param poll_interval: The most seconds between two reads.
    :param stop_at_failure: Whether to end the wait when more operations than allowed have failed or were cancelled.
    :param max_eecu_seconds: The compute that each operation may use before it is cancelled; None for no limit.
    :param max_total_eecu_seconds: The compute that all operations may use together before those that still run are
        cancelled; None for no limit.
    :param max_failures: How many operations may fail: a number, or a share below 1.
    """

    poll_interval: float = POLL_INTERVAL
    stop_at_failure: bool = True
    max_eecu_seconds: float | None = None
    max_total_eecu_seconds: float | None = None
    max_failures: float = 0

    def allows(self, failures: int, total: int) -> bool:
        """Whether this number of failures is allowed."""
        share = self.max_failures * total + ROUNDED  # As a binary fraction, 0.29 * 100 is slightly below 29.
        return failures <= (self.max_failures if self.max_failures >= 1 else share)

    def as_kwargs(self) -> dict[str, Any]:
        """Return the options as the arguments of a hook's method or a trigger."""
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """The operations of a wait, as they were last read. It is kept from poll to poll."""

    names: tuple[OperationName, ...]
    latest: dict[OperationName, Operation] = field(default_factory=dict)
    #: The errors of the operations whose last read has failed.
    last_errors: dict[OperationName, TransientError] = field(default_factory=dict)
    #: When the first read was, by the monotonic clock, and how many operations had ended by then.
    began: float | None = None
    ended_before: int = 0
    #: The states of many operations that were logged last.
    said: str = ""

    @property
    def unfinished(self) -> tuple[OperationName, ...]:
        """The operations that are not known to have ended."""
        if not any(operation.done for operation in self.latest.values()):
            return self.names  # Not a copy: a triggerer would have one for each of its triggers.
        return tuple(name for name in self.names if name not in self.latest or not self.latest[name].done)

    @property
    def found(self) -> list[Operation]:
        """Each operation that was read, in its latest state, in the order of the names."""
        return [self.latest[name] for name in self.names if name in self.latest]

    def is_over(self, options: WaitOptions) -> bool:
        """Whether the wait is over."""
        if not self.unfinished:
            return True
        failures = sum(operation.failed for operation in self.found)
        return options.stop_at_failure and not options.allows(failures, len(self.names))


def poll_operations(progress: Progress, options: WaitOptions, after: float = 0.0) -> Flow[int]:
    """Read the operations that have not ended, once, and log changes. A transient error affects only its operation.

    :param after: Seconds to wait first.
    :return: How many were read; fewer than are unfinished if some ended early.
    :raises ComputeLimitExceededError: If operations used more compute than allowed, after their cancel.
    """
    seen: ReadResults = yield ReadOperations(progress.unfinished, after)
    yield from _take_in(seen, progress, options)
    return len(seen)


def _take_in(seen: ReadResults, progress: Progress, options: WaitOptions) -> Flow[None]:
    yield from _merge_and_log(seen, progress)
    yield from _enforce_limits(progress, options)


def wait_for_operations(
    names: Sequence[OperationName], options: WaitOptions, *, timeout: float | None = None
) -> Flow[list[Operation]]:
    """Wait until all operations have ended or too many failed; return each as last read, in the order of ``names``.

    At the beginning of the wait, the operations are read more often.

    :param timeout: Seconds to wait; None for no limit.
    :raises OperationTimeoutError: If operations have not ended by then.
    :raises ComputeLimitExceededError: See `poll_operations`.
    """
    return _poll_until(Progress(tuple(names)), options, timeout, must_end=True)


def wait_for_room(
    names: Sequence[OperationName], options: WaitOptions, *, unfinished: int, timeout: float | None
) -> Flow[list[Operation]]:
    """Read operations until at most ``unfinished`` of them run, more than allowed have failed, or the time is over.

    Without operations, it only waits: operations of others fill the queue.

    :param timeout: Seconds to wait at most; None for no limit.
    """
    if names:
        return _poll_until(Progress(tuple(names)), options, timeout, enough=unfinished)
    return _nothing_after(timeout or 0.0)


def _nothing_after(seconds: float) -> Flow[list[Operation]]:
    yield Sleep(seconds)
    return []


def _poll_until(
    progress: Progress, options: WaitOptions, timeout: float | None, *, enough: int = 0, must_end: bool = False
) -> Flow[list[Operation]]:
    """Poll until the wait is over, or its timeout has passed.

    To save memory, this is one generator, without `poll_operations`: a triggerer has one for each of its triggers.

    :param enough: The number of operations that may still run at the end of the wait.
    :param must_end: Whether it is an error if the timeout passes first.
    """
    started = now = due = yield MonotonicTime()
    while True:
        unfinished = len(progress.unfinished)
        seen: ReadResults = yield ReadOperations(progress.unfinished, max(0.0, due - now))
        yield from _take_in(seen, progress, options)
        now = yield MonotonicTime()
        if len(seen) == unfinished:  # Otherwise, some have ended early, and the others are due as before.
            due = now + next_interval(now - started, options.poll_interval)
        if len(progress.unfinished) <= enough or progress.is_over(options):
            return progress.found
        if timeout is not None:
            if now - started >= timeout:
                if must_end:
                    raise _timed_out(progress, timeout)
                return progress.found
            due = min(due, started + timeout)


def next_interval(waited: float, poll_interval: float) -> float:
    """Return the seconds until the next poll. The interval grows with the time waited.

    :param waited: The time waited so far, in seconds.
    :param poll_interval: The most seconds between two polls.
    """
    return min(poll_interval, max(FIRST_INTERVAL, waited * INTERVAL_GROWTH))


def _timed_out(progress: Progress, timeout: float | None) -> OperationTimeoutError:
    lines = []
    for name in progress.unfinished:
        known = progress.latest.get(name)
        lines.append(f"  {known.log_line}" if known else f"  {progress.last_errors.get(name, name)}")
    running = f"{len(lines)} of {len(progress.names)} operations"
    return OperationTimeoutError(
        f"{running} did not end within {timeout or 0.0:g} s; they keep running:\n" + "\n".join(truncated_lines(lines))
    )


def _merge_and_log(seen: ReadResults, progress: Progress) -> Flow[None]:
    """Store the operations that were read, and log changes: of each of a few operations, or one line for many."""
    few = is_short_list(len(progress.names))
    unread: list[TransientError] = []
    for name, operation in seen.items():
        progress.last_errors.pop(name, None)
        if isinstance(operation, TransientError):
            progress.last_errors[name] = operation
            unread.append(operation)
        elif isinstance(operation, EarthEngineError):
            raise operation
        else:
            known = progress.latest.get(name)
            progress.latest[name] = operation
            is_news = operation.failed if not few else known is None or known.progress_key != operation.progress_key
            if is_news:
                yield LogMessage(operation.log_line, warning=operation.failed and not few)
    for error in unread if few else unread[:1]:
        others = "" if few or len(unread) == 1 else f" This and {len(unread) - 1:,} others could not be read."
        yield LogMessage(f"{error}{others} The next poll tries again.", warning=True)
    if not few:
        yield from _log_summary(progress)


def _log_summary(progress: Progress) -> Flow[None]:
    found, now = progress.found, (yield MonotonicTime())
    ended, total = len(progress.names) - len(progress.unfinished), len(progress.names)
    if progress.began is None:
        progress.began, progress.ended_before = now, ended
    said = count_by([operation.state.value for operation in found])
    if said == progress.said:
        return
    progress.said = said
    line = summary(found, total)
    news = ended - progress.ended_before
    if news and total > ended >= total * SHARE_FOR_ESTIMATE:
        line += f"; {time_left(news, total - ended, now - progress.began)}"
    yield LogMessage(f"{line}.")


def _enforce_limits(progress: Progress, options: WaitOptions) -> Flow[None]:
    """Cancel running operations that used more compute than allowed, each or together."""
    running = [operation for operation in progress.found if not operation.done]
    most, most_together = options.max_eecu_seconds, options.max_total_eecu_seconds
    if most is not None and (over := [o for o in running if (o.batch_eecu_usage_seconds or 0.0) > most]):
        used = abbreviated(f"{o.label} has used {o.batch_eecu_usage_seconds:g} EECU-seconds" for o in over)
        yield from _cancel_over_limit([o.name for o in over], used, most, "max_eecu_seconds")
    together = eecu_seconds(progress.found)
    if most_together is not None and together > most_together and progress.unfinished:
        used = f"The task's {len(progress.names):,} operations have used {together:,.0f} EECU-seconds together"
        by_state = Counter[str]()
        for operation in progress.found:
            by_state[operation.state.value] += round(operation.batch_eecu_usage_seconds or 0.0)
        used += f" ({', '.join(f'{state} {seconds:,}' for state, seconds in by_state.most_common())})"
        yield from _cancel_over_limit(list(progress.unfinished), used, most_together, "max_total_eecu_seconds")


def _cancel_over_limit(names: list[OperationName], used: str, most: float, parameter: str) -> Flow[None]:
    allowed = f"{most:g} are allowed ({parameter})"
    yield LogMessage(f"{used}, and {allowed}; cancelling {abbreviated(names)}.", warning=True)
    results = yield from cancel_and_confirm(names)
    outcomes = "; ".join(describe_results(results))
    raise ComputeLimitExceededError(
        f"{used}; {allowed}. Result of the cancel: {outcomes}.",
        remedy=f"Reduce the export's size, or raise {parameter}.",
    )
