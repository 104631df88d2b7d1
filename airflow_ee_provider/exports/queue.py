"""Start as many of a task's exports as Earth Engine has room for.

`next_step` decides how many exports to start now, and how long to wait before the next start. It is a pure function.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.protocol.waiting import Progress
from airflow_ee_provider.tracking.kept_requests import Asked

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


#: The share of a task's running operations that must end before it starts more. A deferred task starts them in a new
#: process each time.
REFILL_FRACTION = 0.25

#: Seconds after which the task tries a full queue again although none of its own operations has ended: the first and
#: the longest delay.
INITIAL_RETRY_DELAY, MAX_RETRY_DELAY = 30.0, 300.0


@dataclass(frozen=True)
class QueueState:
    """The limits of a task, and the state of its operations and of the project's queue.

    :param max_active_operations: Maximum number of the task's queued and running operations; None for as many as the
        project's queue takes.
    :param queue_timeout: Seconds to wait for a full queue while no export is started; None for no limit.
    :param unstarted: The number of the task's exports that are not started yet.
    :param running: The number of its operations that are not known to have ended.
    :param counted: The number of these that count towards ``max_active_operations``.
    :param is_full: Whether Earth Engine has just refused a start because the project's queue is full.
    :param full_since: The time since which the queue has been full and no export was started, in seconds since the
        epoch; None if it was not full.
    :param now: The present time, in seconds since the epoch.
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
        """Return the state after ``started`` more exports are started. If ``is_full``, the queue took no others."""
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
    """Wait until at most ``unfinished`` of the ``running`` operations still run, or for ``timeout`` seconds.

    :param timeout: None if only the task's own operations can make room.
    :param full_since: See `QueueState`.
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
    """Fail this try, because the queue was full for ``waited`` seconds; the next try finds the started operations."""

    waited: float

    def __str__(self) -> str:
        return (
            f"The project's queue was full for {self.waited:g} s (queue_timeout), so no more exports were started. "
            "A retry continues with the exports that are started."
        )


def next_step(state: QueueState) -> StartMore | QueueWait | GiveUp | None:
    """Return the next step for the exports that a task has not started yet; None if there are none."""
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


class QueueFiller:
    """Starts a task's exports while Earth Engine has room for them.

    ``max_active_operations`` counts only exports that are started after the function has returned. It does not count
    those that the function started itself or that the last try started.

    :param state: The task's limits, and since when the queue has been full.
    :param options: How the task waits.
    """

    def __init__(
        self, hook: EarthEngineHook, starter: Starter, asked: Asked, state: QueueState, options: WaitOptions
    ) -> None:
        self._hook, self._starter, self._asked, self._state, self._options = hook, starter, asked, state, options
        self._progress = Progress(())
        #: The task's operations that are not known to have ended.
        self.running = self.started

    @property
    def started(self) -> list[str]:
        """The started operations that the task waits for."""
        return self._asked.names(self._starter.known)

    @property
    def unstarted(self) -> list[Start]:
        """The starts that are still to be sent."""
        return [start for start in self._asked.starts if start.key not in self._starter.known]

    def read(self) -> Progress:
        """Read the operations that are started and have not ended yet."""
        names, options = self.started, self._options
        if not names:
            return self._progress
        limits = {
            "max_eecu_seconds": options.max_eecu_seconds,
            "max_total_eecu_seconds": options.max_total_eecu_seconds,
        }
        self._progress.names = tuple(self._hook.account.names(names))
        self._progress = self._hook.poll_operations(names, **limits, progress=self._progress)
        self.running = [str(name) for name in self._progress.unfinished]
        return self._progress

    def fill(self) -> QueueWait | None:
        """Start as many exports as there is room for.

        :return: What to wait for before more are started; None if all are started.
        :raises EarthEngineError: If a start failed, or the queue was full for ``queue_timeout``.
        """
        known, now = self._starter.known, time.time()
        counted = {known.get(one) for one in self._asked.operations if one not in self._asked.uncounted}
        state = replace(
            self._state,
            unstarted=len(self.unstarted),
            running=len(self.running),
            counted=sum(name in counted for name in self.running),  # Adopted operations do not count, either.
            now=now,
        )
        while isinstance(step := next_step(state), StartMore):
            unstarted = self.unstarted
            is_full = self._starter.start_all(self._asked.starts, step.up_to)
            new = [known[start.key] for start in unstarted if start.key in known]
            self.running = [*self.running, *new]
            state = state.after_start(len(new), is_full=is_full, now=time.time())
        if isinstance(step, GiveUp):
            raise TransientError(str(step))
        self._state = replace(state, is_full=False, full_since=step.full_since if step else None)
        return step

    def wait(self, what: QueueWait) -> None:
        """Wait for room, in this process."""
        self._hook.wait_for_room(self.running, unfinished=what.unfinished, timeout=what.timeout, options=self._options)


def start_registered(hook: EarthEngineHook, starter: Starter, state: QueueState, options: WaitOptions) -> None:
    """Start the exports that a function has registered, because it needs them before it returns.

    It waits for room in this process. If Earth Engine refuses an export, it starts the others; `Starter.refusal_of`
    returns the error.

    :raises EarthEngineError: If a start failed with another error than a refusal.
    """
    while starts := [starter.start_of(one) for one in list(starter.registered.values()) if not starter.name_of(one)]:
        before = len(starter.registered)
        starter.find(starts)
        asked = Asked(operations=list(starter.registered), starts=starts)
        try:
            _fill_up(
                QueueFiller(hook, starter, asked, state, options),
                hook,
                is_limited=state.max_active_operations is not None,
            )
        except EarthEngineError as error:
            if not error.permanent or len(starter.registered) == before:
                raise


def _fill_up(filler: QueueFiller, hook: EarthEngineHook, *, is_limited: bool) -> None:
    if is_limited:
        filler.read()
    while wait := filler.fill():
        hook.log.info("The function needs %s more exports to start. %s.", f"{len(filler.unstarted):,}", wait)
        filler.wait(wait)
        filler.read()
