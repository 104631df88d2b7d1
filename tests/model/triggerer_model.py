"""A triggerer of the model: its event loop, and the task's triggers in it."""

from __future__ import annotations

import asyncio
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from database_model import AWAY, HEARS_OF_DEFERRAL, SCHEDULER, TRIGGERER, TaskInstance

if TYPE_CHECKING:
    from airflow_model import Airflow
    from world import World


class Loop(asyncio.SelectorEventLoop):
    """The triggerer's event loop, in virtual time."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Whether it was killed: its code has no further effect then.
        self.is_dead = False
        super().__init__()
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._world.now

    def pump(self) -> None:
        """Run all callbacks that are due."""
        for _ in range(10_000):
            if self.is_dead or not (self._ready or (self._scheduled and self._scheduled[0]._when <= self._world.now)):
                return
            self.call_soon(self.stop)
            self.run_forever()
        raise AssertionError(f"the event loop does not come to rest: {list(self._ready)}")

    def next_moment(self) -> float:
        return math.inf if self.is_dead or not self._scheduled else self._scheduled[0]._when


class Triggerer:
    """Runs the trigger of the deferred task."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow, self.world = airflow, airflow.world
        self.loop: Loop | None = Loop(airflow.world)
        self.old_loops: list[Loop] = []
        self.running: dict[int, tuple[Any, asyncio.Task[None]]] = {}
        #: The number of the last trigger whose code has started.
        self.begun = 0
        airflow.world.after(TRIGGERER, self._looks)

    def _looks(self) -> None:
        self.world.after(TRIGGERER, self._looks)
        if self.loop is None:
            return
        row = self.airflow.row
        number = row.trigger_number
        if row.state == "deferred" and number not in self.running:
            self.running[number] = self._run_trigger(number)
        for other, (_, task) in list(self.running.items()):
            if task.done():
                if not (other == number and row.state == "deferred"):
                    del self.running[other]
            elif other != number or row.state != "deferred":
                told = self.airflow.version.tells_triggers and self.airflow.is_user_action
                task.cancel("__airflow_user_action__" if told else None)

    def _run_trigger(self, number: int) -> tuple[Any, asyncio.Task[None]]:
        path, kwargs = self.airflow.row.trigger
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**kwargs)
        trigger.task_instance, trigger.trigger_id = TaskInstance(self.airflow), number
        assert self.loop is not None

        async def run() -> None:
            self.world.strike("the trigger begins")
            self.begun = number
            try:
                async for event in trigger.run():
                    self._event(number, event.payload)
                    return
            except asyncio.CancelledError as error:
                if self.airflow.version.tells_triggers and "__airflow_user_action__" in error.args:
                    self.world.strike("on_kill")
                    await trigger.on_kill()
                raise

        return trigger, self.loop.create_task(run())

    def _event(self, number: int, payload: Any) -> None:
        self.world.strike(f"the trigger's event: {str(payload)[:60]}")
        self._resume(number, self.airflow.row.next_method, self.airflow.row.next_kwargs | {"event": payload})

    def times_out(self, number: int) -> None:
        """Time out a deferral, if the task still waits for it."""
        error = "Trigger/execution timeout" if self.airflow.is_2 else "Trigger timeout"
        self._resume(number, "__fail__", {"error": error})

    def _resume(self, number: int, method: str, kwargs: dict[str, Any]) -> None:
        row = self.airflow.row
        if row.state == "deferred" and row.trigger_number == number:
            # The scheduler learns some seconds later that the process has ended. If the task resumes before that, the
            # scheduler considers it lost.
            ended_at = row.process.ended_at if row.process is not None else -math.inf
            self.airflow.was_taken_for_lost |= self.world.now - ended_at < HEARS_OF_DEFERRAL and method != "__fail__"
            row.state, row.next_method, row.next_kwargs = "scheduled", method, kwargs
            self.airflow.is_user_action = False
            self.world.after(SCHEDULER, self.airflow.worker.start)

    def stop(self, *, kill: bool) -> None:
        """Stop the triggerer; it starts again some seconds later."""
        if self.loop is None:
            return
        loop, self.loop = self.loop, None
        if not kill:  # On SIGTERM, it cancels its triggers, and gives them some seconds.
            for _, task in self.running.values():
                task.cancel()
        loop.is_dead = kill
        self.old_loops.append(loop)
        self.running.clear()
        self.world.after(AWAY, self._comes_back)

    def is_late(self) -> None:
        """Move the trigger to another triggerer, because this one's heartbeats are late; this one continues.

        Airflow 3.3.2 then reports a user's action to the trigger.
        """
        number = self.airflow.row.trigger_number
        if self.loop is None or self.airflow.row.state != "deferred" or number not in self.running:
            return
        _, task = self.running.pop(number)
        self.old_loops.append(self.loop)
        self.loop = Loop(self.world)
        told = "__airflow_user_action__" if self.airflow.version.tells_triggers else None
        self.world.after(TRIGGERER, lambda: task.cancel(told))

    def _comes_back(self) -> None:
        for loop in self.old_loops:
            loop.is_dead = True
        self.loop = Loop(self.world)

    def loops(self) -> list[Loop]:
        """Return the event loops that still run."""
        return [loop for loop in (self.loop, *self.old_loops) if loop is not None and not loop.is_dead]

    def close(self) -> None:
        """Close all event loops."""
        for loop in filter(None, (self.loop, *self.old_loops)):
            loop.is_dead = True
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False
            loop._ready.clear()
            loop._scheduled.clear()
            loop.close()

    def time_out(self) -> None:
        """Time out the task's deferral."""
        if self.airflow.row.state == "deferred":
            self.airflow.want_no_more()
            self.times_out(self.airflow.row.trigger_number)
