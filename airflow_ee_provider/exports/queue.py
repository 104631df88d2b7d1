"""Room for a task's exports: how many may be in Earth Engine at once, and waiting until more can be started."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_ee_provider.exports.restarts import failed_to_restart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.protocol.waiting import Progress
    from airflow_ee_provider.exports.exporting import ExportingOperator
    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.tracking.requests import Asked

#: The share of a task's operations that has to end before more are started: each time, the task's process begins anew.
SHARE = 0.25

#: Seconds after which a full queue is tried again although none of the task's own has ended: at first, and later on.
FIRST_TRY, TRY_AGAIN = 30.0, 300.0


@dataclass(frozen=True)
class Room:
    """What is waited for: until of those that run no more than ``unfinished`` do, or for ``timeout`` seconds.

    :param timeout: None where only the task's own operations can make room.
    :param since: when the project's queue has become full, in seconds since the epoch.
    """

    running: int
    unfinished: int
    timeout: float | None
    since: float | None

    @classmethod
    def among(cls, running: int, active: int, since: float | None, queue_timeout: float | None) -> Room:
        """Return what a task waits for of whose operations so many run.

        :param active: how many of them were started as there was room.
        :param since: when the queue has become full, in seconds since the epoch; None where only the task's own
            operations can make room.
        :raises AirflowException: if it has waited for too long: the next try goes on with what was started.
        """
        unfinished = running - max(1, int(active * SHARE))
        if since is None:
            return cls(running, unfinished, None, None)
        left = min(TRY_AGAIN, max(FIRST_TRY, time.time() - since))
        if queue_timeout is not None:
            left = min(left, since + queue_timeout - time.time())
            if left <= 0:
                raise AirflowException(
                    f"Earth Engine has had no room for more exports in {queue_timeout:g} s (queue_timeout)."
                )
        return cls(running, unfinished, left, since)

    def __str__(self) -> str:
        if not self.running:
            return f"Others fill the queue; it is tried again in {self.timeout:.0f} s"
        return f"{self.running:,} run; more are started once {self.running - self.unfinished:,} of them have ended"

    @property
    def for_trigger(self) -> dict[str, Any]:
        """What the trigger is told."""
        return {"unfinished": self.unfinished, "room_timeout": self.timeout, "since": self.since}


def start_as_there_is_room(task: ExportingOperator, context: Context, starter: Starter, asked: Asked) -> None:
    """Start all, and wait for room where there is none for more, here or in the triggerer.

    Only what was asked for once the function had returned is counted; what it has started by itself, and what the last
    try has left, runs beside it.

    :raises TaskDeferred: to wait in the triggerer; the task goes on in `ExportingOperator.start_more`.
    :raises AirflowException: if more have failed meanwhile than may, or there has been no room for too long.
    """
    starts, since, progress, is_first = asked.starts, task.full_since, None, not asked.is_kept
    while True:
        running = _names(starter, asked)
        if running and (task.max_active_operations is not None or not is_first):
            progress = _read(task, context, running, asked, progress)
            running = [str(name) for name in progress.unfinished]
        active = _active(starter, asked, running)
        most = None if task.max_active_operations is None else max(0, task.max_active_operations - active)
        unstarted = [start for start in starts if not starter.has_started(start)]
        if not unstarted:
            return
        left = starter.start_all(starts, most)
        if not left or starter.stopped:
            return
        new = [starter.name_of(start) for start in unstarted if starter.has_started(start)]
        if not starter.is_full:
            since = None
        elif new or since is None:
            since = time.time()
        running, is_first = [*running, *new], False
        if not running and since is None:  # They have ended meanwhile.
            continue
        room = Room.among(len(running), active + len(new), since, task.queue_timeout)
        task.log.info("%s of %s are left to be started. %s.", f"{len(left):,}", f"{len(asked.operations):,}", room)
        from airflow_ee_provider.triggers.earth_engine import EarthEngineRoomTrigger

        if task.deferrable and task.is_kept(context, asked, left, "max_active_operations"):
            task.wait_in_triggerer(context, running, EarthEngineRoomTrigger, method="start_more", **room.for_trigger)
        options = task.wait_options
        task.hook.wait_for_room(running, unfinished=room.unfinished, timeout=room.timeout, options=options)


def _names(starter: Starter, asked: Asked) -> list[str]:
    """Return all that the task waits for, as far as it is started."""
    return asked.names(starter.known)


def _active(starter: Starter, asked: Asked, running: Iterable[str]) -> int:
    """Return how many of those that run are counted: not what was adopted by its name, either."""
    counted = {starter.known.get(one) for one in asked.operations if one not in asked.uncounted}
    return sum(name in counted for name in running)


def _read(
    task: ExportingOperator, context: Context, names: list[str], asked: Asked, progress: Progress | None
) -> Progress:
    """Read what was started, and fail if more of it have failed than may."""
    if progress is not None:
        progress.names = task.hook.account.names(names)
    progress = task.hook.poll_operations(names, **task.limits, progress=progress)
    options, operations = task.wait_options, [operation.as_dict() for operation in progress.found]
    # That is done once all have been started.
    again = failed_to_restart(context, operations, task.max_restarts, asked.starts)
    failures = sum(operation.failed for operation in progress.found) - len(again)
    if options.stop_at_failure and not options.allows(failures, len(asked.operations)):
        task.operation_names = names
        task.check_failures(operations)
    return progress
