"""The base class of the triggers, and the regular check of their tasks' states.

The base class has the account and the single event, which also reports Earth Engine errors to the task.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ee_provider.base.errors import CANNOT_BEGIN
from airflow_ee_provider.base.task_states import instance_name, states_of
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook
    from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

log = logging.getLogger(__name__)

#: Seconds between two checks of the tasks' states. A check sends one request for each DAG that has waiting tasks.
STATE_INTERVAL = 60.0

#: Seconds until an event loop's first check. A trigger's first request makes Airflow 3's triggerer build an API server,
#: which takes seconds. The check does that early, so that no cancel waits for it.
FIRST_CHECK = 1.0

#: How long a trigger waits after its start before it resumes the task, in seconds. Meanwhile, the task's process ends
#: and reports that to the scheduler. If the scheduler gets the report too late, it treats the task as lost ("finished
#: with state success, but the state is queued").
SETTLE = 10.0


class Trigger(BaseTrigger):
    """Wait in the triggerer, and resume the task with one event."""

    #: The maximum number of results in an event, since Airflow logs and stores the event. If there are more, the event
    #: has only the number of operations in each state, and the task reads the operations.
    most_results: ClassVar[float] = math.inf

    def __init__(
        self,
        *,
        operation_names: Sequence[str],
        earth_engine_conn_id: str | None,
        project_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        poll_interval: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation_names = list(operation_names)
        self.earth_engine_conn_id = earth_engine_conn_id
        self.project_id = project_id
        self.impersonation_chain = impersonation_chain
        self.poll_interval = poll_interval
        #: When it may resume the task, in seconds of the monotonic clock.
        self.settled = 0.0
        self.logger()  # Sets the class's logger: a logger for each trigger would take a tenth of its memory.

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the parameters with which Airflow makes the trigger again after a restart."""
        names = ("operation_names", "earth_engine_conn_id", "project_id", "impersonation_chain", "poll_interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    @cached_property
    def hook(self) -> EarthEngineAsyncHook:
        """The trigger's hook."""
        from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook

        return EarthEngineAsyncHook(self.earth_engine_conn_id, self.project_id, self.impersonation_chain)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event. After an Earth Engine error, the event has the error and whether it is permanent.

        The event comes `SETTLE` seconds after the trigger has begun, or later.
        """
        payload: dict[str, Any]
        self.settled = 0.0 if self.task_instance is None else time.monotonic() + SETTLE
        try:
            result = await self.wait()
            is_short = len(result) <= self.most_results
            payload = {"result": result} if is_short else {"states": dict(Counter(one["state"] for one in result))}
        except EarthEngineError as error:
            payload = {"error": str(error), "permanent": error.permanent}
            if isinstance(error, CredentialsError) and "account" not in vars(self.hook):
                payload[CANNOT_BEGIN] = True
        await sleep_until(self.settled)
        await self.before_resuming(payload)
        yield TriggerEvent(payload)

    async def before_resuming(self, payload: dict[str, Any]) -> None:
        """Do what must be done before the task resumes.

        :param payload: The event's.
        """

    async def wait(self) -> list[Any]:
        """Wait, and return the event's result."""
        raise NotImplementedError


async def sleep_until(moment: float) -> None:
    """Wait until a moment of the monotonic clock."""
    if (seconds := moment - time.monotonic()) > 0:
        await asyncio.sleep(seconds)


async def finish(coroutine: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Wait for a coroutine, and shield it from cancellations, which Airflow repeats every second.

    :param seconds: How long to wait; the coroutine then continues in the background.
    :return: Whether it has ended.
    """
    from airflow_ee_provider.earth_engine.transport.drivers import in_background

    task, until = in_background(coroutine), time.monotonic() + seconds
    while not task.done() and (left := until - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=left)
    return task.done()


class StateWatch:
    """Checks the states of all tasks whose triggers wait in one event loop.

    Airflow cancels a trigger when a user acts on its task and the scheduler runs the DAG. It does not if a deferred
    task is cleared while its DAG is paused, its DAG's file cannot be parsed, or its run waits for ``max_active_runs``.
    The task instance then has no state, and the trigger runs until its operations end.
    """

    def __init__(self) -> None:
        self.triggers: set[EarthEngineOperationsTrigger] = set()
        self.checking: asyncio.Task[None] | None = None
        self._has_checked = False

    async def check_regularly(self) -> None:
        """Check the states regularly, as long as a trigger waits."""
        while self.triggers:
            await asyncio.sleep(STATE_INTERVAL if self._has_checked else FIRST_CHECK)
            self._has_checked = True
            found = await self._not_deferred()
            # Each trigger asks Airflow again, for its own task: this response may be out of date.
            waiting = [trigger for trigger in found if trigger in self.triggers]
            await asyncio.gather(*(trigger.cancel_if_unneeded(is_user_action=False) for trigger in waiting))

    async def _not_deferred(self) -> list[EarthEngineOperationsTrigger]:
        from asgiref.sync import sync_to_async

        from airflow_ee_provider.earth_engine.transport.drivers import in_background

        of_dag: defaultdict[str, dict[EarthEngineOperationsTrigger, Any]] = defaultdict(dict)
        for trigger in self.triggers:
            ti: Any = trigger.task_instance
            of_dag[ti.dag_id][trigger] = ti
        found: list[EarthEngineOperationsTrigger] = []
        for dag_id, triggers in of_dag.items():
            tis = triggers.values()
            question = sync_to_async(states_of)(dag_id, {ti.run_id for ti in tis}, {ti.task_id for ti in tis})
            try:
                # In the background: Airflow 3.1's triggerer crashes if a request is cancelled before its response.
                states = await asyncio.shield(in_background(question))
            except Exception as error:  # noqa: BLE001 (Airflow may raise any exception; the next check asks again)
                log.info("Could not read the states of the deferred tasks of %s; trying again later: %s", dag_id, error)
                continue
            found += [trigger for trigger, ti in triggers.items() if _state(states, ti) != "deferred"]
        return found


def _state(states: Mapping[tuple[str, str], str], ti: Any) -> str:
    return states.get((ti.run_id, instance_name(ti.task_id, ti.map_index)), "deleted")


#: The watch of each event loop; a triggerer has one loop.
_WATCHES: WeakKeyDictionary[asyncio.AbstractEventLoop, StateWatch] = WeakKeyDictionary()


def watch(trigger: EarthEngineOperationsTrigger) -> None:
    """Check regularly, until `unwatch`, whether a trigger's task still waits; if not, let the trigger cancel."""
    if trigger.task_instance is None or not trigger.cancel_on_kill:
        return
    watching = _WATCHES.setdefault(asyncio.get_running_loop(), StateWatch())
    watching.triggers.add(trigger)
    if watching.checking is None or watching.checking.done():
        watching.checking = asyncio.ensure_future(watching.check_regularly())


def unwatch(trigger: EarthEngineOperationsTrigger) -> None:
    """Stop the regular check for a trigger."""
    watching = _WATCHES.get(asyncio.get_running_loop())
    if watching is None:
        return
    watching.triggers.discard(trigger)
    if not watching.triggers and watching.checking is not None:
        watching.checking.cancel()
        watching.checking = None  # It refers to the loop, which could otherwise never be freed.
