"""Decide how many exports a task starts now, and what it waits for before it starts more; a pure function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

#: The share of a task's operations that has to end before more are started, each time in a new process.
REFILL_FRACTION = 0.25

#: Seconds after which a full queue is tried again although none of the task's own operations has ended: at first, and
#: at most.
INITIAL_RETRY_DELAY, MAX_RETRY_DELAY = 30.0, 300.0


@dataclass(frozen=True)
class QueueState:
    """What a task may start, and what is known of its operations and of the project's queue.

    :param max_active_operations: how many of the task's operations may be in Earth Engine at once; None for as many as
        the project's queue takes.
    :param queue_timeout: seconds to wait for a full queue while nothing is started; None for no limit.
    :param unstarted: how many of the task's exports are not started yet.
    :param running: how many of its operations are not known to have ended.
    :param counted: how many of those count towards ``max_active_operations``.
    :param is_full: whether Earth Engine has just refused a start because the project's queue is full.
    :param full_since: since when the queue has been full and nothing was started, in seconds since the epoch; None if
        it was not full.
    :param now: in seconds since the epoch.
    """

    max_active_operations: int | None = None
    queue_timeout: float | None = None
    unstarted: int = 0
    running: int = 0
    counted: int = 0
    is_full: bool = False
    full_since: float | None = None
    now: float = 0.0

    def after_start(self, started: int, *, is_full: bool, now: float) -> QueueState:
        """Return the state once so many more are started: all that could be, if the queue is full."""
        is_still_full = is_full and not started and self.full_since is not None
        return replace(
            self,
            unstarted=self.unstarted - started,
            running=self.running + started,
            counted=self.counted + started,
            is_full=is_full,
            full_since=self.full_since if is_still_full else now if is_full else None,
            now=now,
        )


@dataclass(frozen=True)
class StartMore:
    """Start more exports: at most ``up_to``; None for all."""

    up_to: int | None = None


@dataclass(frozen=True)
class QueueWait:
    """Wait until of the ``running`` operations no more than ``unfinished`` run, or for ``timeout`` seconds.

    :param timeout: None where only the task's own operations can make room.
    :param full_since: see `QueueState`.
    """

    running: int
    unfinished: int
    timeout: float | None = None
    full_since: float | None = None

    def __str__(self) -> str:
        if not self.running:
            return f"The project's queue is full with other users' operations; trying again in {self.timeout:.0f} s"
        return f"{self.running:,} are running; more start after {self.running - self.unfinished:,} of them have ended"

    def as_trigger_kwargs(self) -> dict[str, Any]:
        """Return the parameters of the trigger that waits."""
        return {"unfinished": self.unfinished, "room_timeout": self.timeout, "since": self.full_since}


@dataclass(frozen=True)
class GiveUp:
    """Fail this try, because the queue was full for ``waited`` seconds; the next one finds what was started."""

    waited: float

    def __str__(self) -> str:
        return (
            f"The project's queue was full for {self.waited:g} s (queue_timeout), so no more exports were started. "
            "A retry continues with the exports that are started."
        )


def next_step(state: QueueState) -> StartMore | QueueWait | GiveUp | None:
    """Return what a task does next about the exports that it has not started yet; None if there are none."""
    if not state.unstarted:
        return None
    limit = state.max_active_operations
    free = None if limit is None else max(0, limit - state.counted)
    if free != 0 and not state.is_full:
        return StartMore(free)
    unfinished = state.running - max(1, int(state.counted * REFILL_FRACTION))
    if not state.is_full:
        return QueueWait(state.running, unfinished)
    waited = 0.0 if state.full_since is None else state.now - state.full_since
    timeout = min(MAX_RETRY_DELAY, max(INITIAL_RETRY_DELAY, waited))
    if state.queue_timeout is not None:
        if waited >= state.queue_timeout:
            return GiveUp(state.queue_timeout)
        timeout = min(timeout, state.queue_timeout - waited)
    return QueueWait(state.running, unfinished, timeout, state.full_since)
