"""Start as many of a task's exports as Earth Engine has room for."""

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
    """Starts a task's exports while Earth Engine has room for them.

    ``max_active_operations`` counts only exports that are started after the function has returned. It does not count
    those that the function started itself or that the last try started.

    :param state: What the task may start, and since when the queue is full.
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
        self._progress.names = self._hook.account.names(names)
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
            counted=sum(name in counted for name in self.running),  # Without adopted operations, too.
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

    :raises EarthEngineError: If another error than a refusal stopped it.
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
