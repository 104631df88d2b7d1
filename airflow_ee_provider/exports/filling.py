"""Start a task's exports as far as there is room for them in Earth Engine."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.protocol.waiting import Progress
from airflow_ee_provider.exports.queue import GiveUp, QueueState, QueueWait, StartMore, next_step
from airflow_ee_provider.tracking.requests import Asked

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


class QueueFiller:
    """Starts what a task has asked for, as far as there is room for it.

    Only what was asked for once the function had returned is counted; what it has started while it ran, and what the
    last try has left, runs beside it.

    :param state: what the task may start, and since when the queue is full.
    :param options: how the task waits.
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
        """All operations that the task waits for, as far as they are started."""
        return self._asked.names(self._starter.known)

    @property
    def unstarted(self) -> list[Start]:
        """What is still to be started."""
        return [start for start in self._asked.starts if start.key not in self._starter.known]

    def read(self) -> Progress:
        """Read what was started and has not ended yet."""
        names, options = self.started, self._options
        if not names:
            return self._progress
        limits = {
            "max_eecu_seconds": options.max_eecu_seconds,
            "max_total_eecu_seconds": options.max_total_eecu_seconds,
        }
        self._progress.names = self._hook.account.names(names)
        self._progress = self._hook.poll_operations(names, **limits, progress=self._progress)
        self.running = [str(name) for name in self._progress.unfinished]
        return self._progress

    def fill(self) -> QueueWait | None:
        """Start what there is room for; return what to wait for before more is started, or None if all is.

        :raises EarthEngineError: if one could not be started, or there was no room for ``queue_timeout``.
        """
        known, now = self._starter.known, time.time()
        counted = {known.get(one) for one in self._asked.operations if one not in self._asked.uncounted}
        state = replace(
            self._state,
            unstarted=len(self.unstarted),
            running=len(self.running),
            counted=sum(name in counted for name in self.running),  # Not what was adopted by its name, either.
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
        """Wait in this process."""
        self._hook.wait_for_room(self.running, unfinished=what.unfinished, timeout=what.timeout, options=self._options)


def start_registered(hook: EarthEngineHook, starter: Starter, state: QueueState, options: WaitOptions) -> None:
    """Start what a function has registered, because it needs it before it returns; wait in this process for room.

    What is refused is `Starter.refusal_of`, and stops no other.

    :raises EarthEngineError: if something else than a refusal has stopped it.
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
        hook.log.info("The function needs %s more that it has started. %s.", f"{len(filler.unstarted):,}", wait)
        filler.wait(wait)
        filler.read()
