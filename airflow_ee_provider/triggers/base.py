"""What all triggers share: the account, the single event, and how an error of Earth Engine's reaches the task."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ee_provider.base.errors import CANNOT_BEGIN
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.lifecycle import handover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook


class Trigger(BaseTrigger):
    """Wait in the triggerer, and resume the task with one event."""

    #: The most results that an event carries. Airflow logs and stores the event, so if there are more, it has only how
    #: many operations are in each state, and the task reads the operations.
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
        self.logger()  # The class's: a logger of its own for each of thousands of triggers is a tenth of their memory.

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
        """Wait, and yield one event. An error of Earth Engine is an event too, with whether a retry can help.

        The event comes `SETTLE` seconds after the trigger has begun, or later: see there.
        """
        payload: dict[str, Any]
        settled = 0.0 if self.task_instance is None else settled_from_now()
        try:
            result = await self.wait()
            is_short = len(result) <= self.most_results
            payload = {"result": result} if is_short else {"states": dict(Counter(one["state"] for one in result))}
        except EarthEngineError as error:
            payload = {"error": str(error), "permanent": error.permanent}
            if isinstance(error, CredentialsError) and "account" not in vars(self.hook):
                payload[CANNOT_BEGIN] = True
        if time.monotonic() < settled:
            await sleep_until(settled)
        yield TriggerEvent(payload)

    async def wait(self) -> list[Any]:
        """Wait, and return the event's result."""
        raise NotImplementedError


def settled_from_now() -> float:
    """Return the moment of the monotonic clock from which on a trigger that begins now may resume its task."""
    return time.monotonic() + handover.SETTLE


async def sleep_until(moment: float) -> None:
    """Wait until a moment of the monotonic clock."""
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Shield a coroutine until it ends: Airflow repeats the cancellation of a trigger every second."""
    from airflow_ee_provider.earth_engine.transport.drivers import in_background

    task = in_background(coroutine)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
