"""A model of Airflow: one task, its tries, its trigger, and what users and failures do to them.

Each transition is one that was seen on a real Airflow (`shared/airflow.md`, docs/lifecycle.md); what differs between
its versions is in `VERSIONS`.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from ee import EEException
from world import Dead, Process, World

from airflow_ee_provider.ownership.holders import Holder, Holding
from airflow_ee_provider.tasks.record_format import OPERATIONS_KEY, Record

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Version:
    """What differs between Airflow's versions.

    :param tells_triggers: of a user's action (`BaseTrigger.on_kill`); seen in 3.3.2.
    :param handler_returns: Airflow's handler of SIGTERM calls `on_kill` and returns (3.x); 2.11 raises after it.
    :param kill_after: seconds from SIGTERM to SIGKILL: 5 in 3.x, `killed_task_cleanup_time` (60) in 2.11.
    :param has_store: `task_state_store`, from 3.3 on.
    :param stops_after_refusal: whether `before_stopping` is called after a deferral was refused, too: so it is in 3.3,
        and in 2.11 (``finally``, in its `task_command.py`); not in between.
    """

    name: str
    tells_triggers: bool
    handler_returns: bool
    kill_after: float
    has_store: bool
    stops_after_refusal: bool


VERSIONS = {
    version.name: version
    for version in (
        Version("2.11", False, False, 60.0, False, True),
        # Alike in all of this: `_on_term`, `main` and `finalize` in `task_runner.py`, and `kill` in `supervisor.py`, of
        # 3.0.6, 3.1.8 and 3.2.2; `cancel_triggers` in their `triggerer_job_runner.py`.
        *(Version(name, False, True, 5.0, False, False) for name in ("3.0", "3.1", "3.2")),
        Version("3.3", True, True, 5.0, True, True),
    )
}

#: Seconds: until the scheduler hears of the end of a deferred task's process;
#: between two heartbeats of a worker, until a missed one is noticed, between two looks of the triggerer and of
#: the scheduler, until the next try of a task, and for which a part of Airflow is away.
HEARS_OF_DEFERRAL = 5.0
HEARTBEAT, HEARTBEAT_TIMEOUT, TRIGGERER, SCHEDULER, RETRY_DELAY, AWAY = 2.0, 40.0, 1.0, 1.0, 5.0, 10.0

TERMINAL = ("success", "failed", "skipped", "removed")

#: The task instances, by task id and map index: the one that holds operations, one that is mapped beside it, and one of
#: another task of the run.
TASK, SIBLING, BYSTANDER = ("task", 0), ("task", 1), ("bystander", -1)


@dataclass
class Row:
    """The task instance, as Airflow's database has it."""

    state: str = "scheduled"
    try_number: int = 0
    max_tries: int = 0
    process: Process | None = None
    next_method: str = ""
    next_kwargs: dict[str, Any] = field(default_factory=dict)
    #: The serialised trigger, and when it times out.
    trigger: Any = None
    trigger_number: int = 0
    trigger_timeout: float = math.inf
    started: float = 0.0


class TaskInstance:
    """What a task's context and a trigger have of it."""

    dag_id, run_id, task = "dag", "run", None
    task_id, map_index = TASK

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self.try_number, self.max_tries = airflow.row.try_number, airflow.row.max_tries
        self.start_date = datetime.fromtimestamp(airflow.row.started, timezone.utc)

    def get_first_reschedule_date(self, _context: Any) -> datetime:
        return datetime.fromtimestamp(self._airflow.first_started, timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        self._airflow.world.step(f"XCom {key}")
        self._airflow.xcoms[self.task_id, self.map_index][key] = value

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index), "another task's XCom"
        self._airflow.world.step(f"XCom {key}?")
        return self._airflow.xcoms[task_ids, map_indexes].get(key)


class Store(dict[str, Any]):
    """Airflow 3.3's `task_state_store`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def set(self, key: str, value: Any) -> None:
        self._world.step(f"store {key}")
        self[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        self._world.step(f"store {key}?")
        return super().get(key, default)

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Loop(asyncio.SelectorEventLoop):
    """The triggerer's event loop, in virtual time."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: It was killed: nothing that still runs in it reaches the world.
        self.is_dead = False
        super().__init__()
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        return self._world.now

    def pump(self) -> None:
        """Run what can run now."""
        for _ in range(10_000):
            if self.is_dead or not (self._ready or (self._scheduled and self._scheduled[0]._when <= self._world.now)):
                return
            self.call_soon(self.stop)
            self.run_forever()
        raise AssertionError(f"the event loop does not come to rest: {list(self._ready)}")

    def next_moment(self) -> float:
        return math.inf if self.is_dead or not self._scheduled else self._scheduled[0]._when


class Airflow:
    """One DAG run with one mapped task, whose siblings and bystanders only have their records.

    :param make: makes the task's operator, at each start of a process.
    :param retries: of the task.
    """

    def __init__(self, world: World, version: Version, make: Callable[[], Any], *, retries: int = 1) -> None:
        self.world, self.version, self.make = world, version, make
        self.row = Row(max_tries=retries)
        self.retries = retries
        self.run_state = "running"
        self.run_began = datetime.fromtimestamp(world.now, timezone.utc)
        self.first_started = world.now
        #: By task id and map index.
        self.xcoms: dict[tuple[str, int], dict[str, Any]] = {TASK: {}, SIBLING: {}, BYSTANDER: {}}
        self.store = Store(world)
        self.loop: Loop | None = Loop(world)
        self.old_loops: list[Loop] = []
        self.running: dict[int, tuple[Any, asyncio.Task[None]]] = {}
        self.is_user_action = False
        self.was_taken_for_lost = False
        #: A process was ended before any code of the product ran in it.
        self.was_unheard = False
        #: When the task has asked for its own state last; the same, before a deferral that was refused; and when it
        #: has succeeded.
        self.asked_at, self.refused_after, self.succeeded_at = -math.inf, -math.inf, math.inf
        #: A worker was told to end, and nobody has said that its operations are not wanted.
        self.may_be_cancelled = False
        #: Until when something has been done to the task, after which it wants nothing of before any more.
        self.unwanted_since = math.inf
        self.errors: list[str] = []
        #: What somebody outside could see of the task, and when.
        self.seen: list[tuple[float, str]] = []
        world.after(0.5, self._start)
        world.after(TRIGGERER, self._triggerer_looks)

    def recorded(self) -> set[str]:
        """Return the operations that the task has recorded in its latest try."""
        parts = [part for key, part in self.xcoms[TASK].items() if key.startswith(OPERATIONS_KEY)]
        return {name for part in parts if isinstance(part, dict) for name in part["operation_names"]}

    def holdings(self) -> list[Holding]:
        """Return what task instances have recorded, as Airflow's database joins it with their states."""
        self.world.step("who holds what?")
        found = []
        for (task_id, map_index), xcoms in self.xcoms.items():
            is_task = (task_id, map_index) == TASK
            state = self.row.state if is_task else "running"
            for key, value in [*xcoms.items(), *(self.store.items() if is_task else ())]:
                if key.startswith(OPERATIONS_KEY) and state != "removed":
                    record = Record.from_json(value)
                    holder = Holder("dag", "run", task_id, map_index, 1, state, self.run_state, record.intent)
                    found.append(Holding(holder, record.operation_names))
        return found

    # The worker.

    def _start(self) -> None:
        """Start a process of the task: of its next try, or one that resumes after a deferral."""
        row = self.row
        if self.run_state not in ("running", "queued") or row.state not in ("scheduled", "up_for_reschedule"):
            return
        if not row.next_method and row.state != "up_for_reschedule":
            row.try_number += 1
            self.seen.append((self.world.now, f"try {row.try_number}"))
            self.xcoms[TASK].clear()  # Airflow deletes them as a try begins.
            self.first_started = self.world.now
        if row.state != "up_for_reschedule" and not row.next_method:
            row.started = self.world.now
        row.state = "running"
        process = row.process = Process(self.world, f"try {row.try_number}")
        process.start(lambda: self._work(process))
        self.world.after(HEARTBEAT, lambda: self._heartbeat(process))

    def context(self) -> dict[str, Any]:
        """Return a task's context."""
        dag_run = SimpleNamespace(start_date=self.run_began, run_id="run", dag_id="dag")
        context: dict[str, Any] = {"ti": TaskInstance(self), "dag": None, "dag_run": dag_run}
        return context | ({"task_state_store": self.store} if self.version.has_store else {})

    def _work(self, process: Process) -> None:
        row = self.row
        method, kwargs = row.next_method, row.next_kwargs
        row.next_method, row.next_kwargs = "", {}
        state = self._outcome(method, kwargs, process)
        if process.alive:
            self._ended(process, state)

    def _execute(self, method: str, kwargs: dict[str, Any], process: Process) -> None:
        self.world.step("parses the DAG's file", 1.0)
        operator = process.operator = self.make()
        context = self.context()
        operator.pre_execute(context)
        process.is_timed = not method  # A resumption has no time of its own.
        try:
            operator.resume_execution(method, kwargs, context) if method else operator.execute(context)
        except AirflowTaskTimeout:
            operator.on_kill()
            raise
        finally:
            process.is_timed = False

    def _ended_by_signal(self, process: Process) -> str:
        """Let an Airflow 2 write down how a task has ended, unless somebody else has, before its process does."""
        state = "up_for_retry" if self.row.try_number <= self.row.max_tries else "failed"
        before = self.row.state
        self.row.state = state if before == "running" else before
        for listener in process.listeners:
            listener.before_stopping(None)
        if before == "running":
            self.row.state = before  # `_ended` goes on from there.
        return state

    def _outcome(self, method: str, kwargs: dict[str, Any], process: Process) -> str:
        try:
            self._execute(method, kwargs, process)
        except TaskDeferred as deferral:
            try:
                return self._defer(deferral, process)
            except AirflowException as error:  # Airflow 2's SIGTERM, in the task's own process.
                self.world.note(f"     fails: {error}")
                return self._ended_by_signal(process)
        except AirflowRescheduleException as again:
            self.world.at(again.reschedule_date.timestamp(), self._start)
            return "up_for_reschedule"
        except AirflowSkipException:
            return "skipped"
        except (AirflowFailException, AirflowSensorTimeout) as error:
            self.world.note(f"     fails for good: {str(error)[:160]}")
            return "failed"
        except (Exception, AirflowTaskTimeout) as error:  # noqa: BLE001 (whatever it is, Airflow fails the task)
            self.world.note(f"     fails: {type(error).__name__} {str(error)[:160]}")
            if not isinstance(error, (AirflowException, AirflowTaskTimeout, EEException)):  # The function's, that one.
                self.errors.append(f"{type(error).__name__}: {error}")
            return "up_for_retry" if self.row.try_number <= self.row.max_tries else "failed"
        return "success"

    def _defer(self, deferral: TaskDeferred, process: Process) -> str:
        self.world.step("asks to be deferred")
        row = self.row
        is_taken = row.process is process and row.state == "running" and self.run_state == "running"
        if is_taken:
            self.seen.append((self.world.now, "deferred"))
            row.state, row.trigger = "deferred", deferral.trigger.serialize()
            row.trigger_number += 1
            row.next_method, row.next_kwargs = deferral.method_name, dict(deferral.kwargs or {})
            seconds = math.inf if deferral.timeout is None else deferral.timeout.total_seconds()
            row.trigger_timeout = self.world.now + seconds
            number = row.trigger_number
            if seconds < math.inf:
                self.world.after(seconds, lambda: self._trigger_times_out(number))
        else:
            self.world.note("     … which is refused")
            self.refused_after = self.asked_at
        if is_taken or self.version.stops_after_refusal:
            for listener in process.listeners:
                listener.before_stopping(None)
        return "deferred"

    def _ended(self, process: Process, state: str) -> None:
        """A process has ended by itself, and says how."""
        row = self.row
        process.alive = False
        process.ended_at = self.world.now
        self.world.note(f"{process.kind}: ends, {state}")
        if row.process is not process:
            return
        if row.state == "restarting":
            self._next_try()
        elif row.state == "running" and state != "deferred":
            row.state = state
            if state == "success":
                self.succeeded_at = self.world.now
            if state == "up_for_retry":
                self._retries()
            elif state == "failed":
                self._failed()

    def _failed(self) -> None:
        row = self.row
        if row.try_number <= row.max_tries and row.state != "failed":
            row.state = "up_for_retry"
            self._retries()
            return
        row.state = "failed"
        self.run_state = "failed"

    def _retries(self) -> None:
        def again() -> None:
            if self.row.state == "up_for_retry":
                self._next_try()

        self.world.after(RETRY_DELAY, again)

    def _next_try(self) -> None:
        self.row.state, self.row.next_method, self.row.trigger = "scheduled", "", None
        self.world.after(SCHEDULER, self._start)

    def _heartbeat(self, process: Process) -> None:
        """Let the supervisor learn what has become of the task meanwhile, and kill it if it is not wanted."""
        if not process.is_running or process.was_told:
            return
        if self.row.process is process and self.row.state in ("running", "deferred"):
            self.world.after(HEARTBEAT, lambda: self._heartbeat(process))
            return
        self.terminate(process)

    def terminate(self, process: Process) -> None:
        """SIGTERM, and SIGKILL some seconds later."""
        self.world.note(f"{process.kind}: gets SIGTERM")

        def handler() -> None:
            if process.operator is None:  # Airflow has no handler yet while it parses the DAG's file.
                self.was_unheard = True
                self._kill(process)
                raise Dead
            process.operator.on_kill()
            if not self.version.handler_returns:
                raise AirflowException("Task received SIGTERM signal")

        process.signal(handler)
        self.world.after(self.version.kill_after, lambda: self._kill(process))

    def _kill(self, process: Process) -> None:
        if process.is_running:
            process.kill()
            if self.row.process is process and self.row.state == "restarting":
                self._next_try()

    # The triggerer.

    def _triggerer_looks(self) -> None:
        self.world.after(TRIGGERER, self._triggerer_looks)
        if self.loop is None:
            return
        row = self.row
        number = row.trigger_number
        if row.state == "deferred" and number not in self.running:
            self.running[number] = self._run_trigger(number)
        for other, (_, task) in list(self.running.items()):
            if task.done():
                if not (other == number and row.state == "deferred"):
                    del self.running[other]
            elif other != number or row.state != "deferred":
                told = self.version.tells_triggers and self.is_user_action
                task.cancel("__airflow_user_action__" if told else None)

    def _run_trigger(self, number: int) -> tuple[Any, asyncio.Task[None]]:
        from importlib import import_module

        path, kwargs = self.row.trigger
        module, _, name = path.rpartition(".")
        trigger = getattr(import_module(module), name)(**kwargs)
        trigger.task_instance = TaskInstance(self)
        assert self.loop is not None

        async def run() -> None:
            self.world.strike("the trigger begins")
            try:
                async for event in trigger.run():
                    self._event(number, event.payload)
                    return
            except asyncio.CancelledError as error:
                if self.version.tells_triggers and "__airflow_user_action__" in error.args:
                    self.world.strike("on_kill")
                    await trigger.on_kill()
                raise

        return trigger, self.loop.create_task(run())

    def _event(self, number: int, payload: Any) -> None:
        self.world.strike(f"the trigger's event: {str(payload)[:60]}")
        self._resume(number, self.row.next_method, self.row.next_kwargs | {"event": payload})

    def _trigger_times_out(self, number: int) -> None:
        self._resume(number, "__fail__", {"error": "Trigger/execution timeout" if self.is_2 else "Trigger timeout"})

    @property
    def is_2(self) -> bool:
        return self.version.name.startswith("2")

    def _resume(self, number: int, method: str, kwargs: dict[str, Any]) -> None:
        row = self.row
        if row.state == "deferred" and row.trigger_number == number:
            # The scheduler hears some seconds later that the process has ended, and takes a task for lost that it has
            # resumed before that.
            ended_at = row.process.ended_at if row.process is not None else -math.inf
            self.was_taken_for_lost |= self.world.now - ended_at < HEARS_OF_DEFERRAL and method != "__fail__"
            row.state, row.next_method, row.next_kwargs = "scheduled", method, kwargs
            self.is_user_action = False
            self.world.after(SCHEDULER, self._start)

    def stop_triggerer(self, *, kill: bool) -> None:
        """Let the triggerer go, and come back."""
        if self.loop is None:
            return
        loop, self.loop = self.loop, None
        if not kill:  # It cancels what runs in it, and gives it some seconds.
            for _, task in self.running.values():
                task.cancel()
        loop.is_dead = kill
        self.old_loops.append(loop)
        self.running.clear()
        self.world.after(AWAY, self._triggerer_comes_back)

    def take_trigger_over(self) -> None:
        """Let another triggerer have the trigger, since this one's heartbeats are late; this one goes on.

        Airflow 3.3.2 tells it that a user has acted, then.
        """
        number = self.row.trigger_number
        if self.loop is None or self.row.state != "deferred" or number not in self.running:
            return
        _, task = self.running.pop(number)
        self.old_loops.append(self.loop)
        self.loop = Loop(self.world)
        told = "__airflow_user_action__" if self.version.tells_triggers else None
        self.world.after(TRIGGERER, lambda: task.cancel(told))

    def _triggerer_comes_back(self) -> None:
        for loop in self.old_loops:
            loop.is_dead = True
        self.loop = Loop(self.world)

    def loops(self) -> list[Loop]:
        """Return the event loops in which something can happen."""
        return [loop for loop in (self.loop, *self.old_loops) if loop is not None and not loop.is_dead]

    def close(self) -> None:
        """End it all."""
        for loop in filter(None, (self.loop, *self.old_loops)):
            loop.is_dead = True
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False
            loop._ready.clear()
            loop._scheduled.clear()
            loop.close()

    # What users do, and what happens.

    def _user_acts(self) -> bool:
        if self.row.state in TERMINAL or self.run_state != "running":
            return False
        self.unwanted_since = min(self.unwanted_since, self.world.now)
        self.is_user_action = True
        return True

    def mark(self, state: str) -> None:
        """Mark the task ``failed`` or ``success``."""
        if self._user_acts():
            self.row.state, self.row.next_method = state, ""
            if state == "failed":
                self.run_state = "failed"

    def tell(self, act: Callable[..., None], *how: Any) -> None:
        """Let a user act in the moment before the heartbeat by which the worker learns of it."""
        process = self.row.process
        act(*how)
        if process is not None and self.row.process is process and self.row.state not in ("running", "deferred"):
            self._heartbeat(process)

    def clear(self) -> None:
        """Clear the task."""
        if self._user_acts():
            row = self.row
            row.max_tries = row.try_number + self.retries
            was = row.state
            if was == "running":
                row.state = "restarting"
                return
            row.state, row.next_method, row.trigger = "scheduled", "", None
            self.world.after(SCHEDULER, self._start)

    def end_run(self, how: str) -> None:
        """Mark the run failed, delete it, or let it time out."""
        if self._user_acts():
            self.row.state, self.row.next_method = ("skipped" if how == "timed out" else "failed"), ""
            if how == "deleted":
                self.row.state = "removed"
            self.run_state = "failed"

    def time_out(self) -> None:
        """Let the `execution_timeout` pass while the task is in a process."""
        process = self.row.process
        if self.row.state == "running" and process is not None and process.is_running and process.is_timed:
            self.unwanted_since = min(self.unwanted_since, self.world.now)

            def handler() -> None:
                process.operator._execution_ends = self.world.now  # It strikes when it strikes, not by a parameter.
                raise AirflowTaskTimeout("Timeout")

            process.signal(handler)

    def lose_worker(self, *, kill: bool) -> None:
        """Kill the worker, or tell it to end."""
        process = self.row.process
        if process is None or not process.is_running:
            return
        if kill:
            process.kill()
        else:
            if self.row.try_number > self.row.max_tries and self.row.state == "running":  # Nobody follows.
                self.unwanted_since = min(self.unwanted_since, self.world.now)
            self.terminate(process)

        def is_missed() -> None:
            if self.row.process is process and self.row.state in ("running", "restarting"):
                self.world.note("scheduler: misses the heartbeat")
                process.kill()
                if self.row.state == "restarting":
                    self._next_try()
                else:
                    self._failed()

        self.world.after(HEARTBEAT_TIMEOUT, is_missed)

    def time_out_trigger(self) -> None:
        """Let the time of a deferral pass."""
        if self.row.state == "deferred":
            self.unwanted_since = min(self.unwanted_since, self.world.now)
            self._trigger_times_out(self.row.trigger_number)

    def lose_sight(self) -> None:
        """Miss the heartbeats of a worker that goes on, and let the next try follow."""
        process = self.row.process
        if self.row.state == "running" and process is not None and process.is_running:
            self.world.note("scheduler: has lost sight of it")
            self._failed()
