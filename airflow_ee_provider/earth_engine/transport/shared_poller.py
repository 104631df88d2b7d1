"""One poller for all waits of a client on its event loop; `PollPlan` decides, this carries it out."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.protocol.api_methods import get_operation
from airflow_ee_provider.earth_engine.protocol.poll_plan import SHORTEST_WAIT, PollPlan
from airflow_ee_provider.earth_engine.protocol.reading import list_is_cheaper, read_list
from airflow_ee_provider.earth_engine.protocol.retries import attempt
from airflow_ee_provider.earth_engine.transport.drivers import run_async

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
    from airflow_ee_provider.earth_engine.protocol.poll_plan import Waiter
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults
    from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport

#: The poller's own log: it works for many tasks.
LOG = logging.getLogger(__name__)

#: How many waiters are answered in one turn of the event loop.
ANSWERS_PER_TURN = 50


class SharedPoller:
    """Reads operations for many waiters with few requests: at each tick, a list or gets for each project.

    :param transport: sends its requests.
    """

    def __init__(self, transport: AiohttpTransport) -> None:
        self._transport = transport
        self._plan = PollPlan()
        self._answers: dict[Waiter, asyncio.Future[ReadResults]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._reads: set[asyncio.Task[None]] = set()

    async def read(self, read: ReadOperations) -> ReadResults:
        """Answer with what is known of the operations, when it is time; earlier if one of them has ended."""
        if not read.names:
            return {}
        loop = asyncio.get_running_loop()
        waiter = self._plan.add(read, loop.time())
        answer = self._answers[waiter] = loop.create_future()
        if waiter.tick not in self._timers:
            # In a context of its own: what a read logs must not go to the log of the task that came first.
            context = contextvars.Context()
            self._timers[waiter.tick] = loop.call_at(waiter.tick, self._begin, waiter.tick, context=context)
        limit = None if read.within is None else max(read.after, SHORTEST_WAIT) + read.within
        try:
            return await (answer if limit is None else asyncio.wait_for(answer, limit))
        except asyncio.TimeoutError:
            return dict(waiter.seen)
        finally:
            self._plan.remove(waiter)
            del self._answers[waiter]

    def close(self) -> None:
        """Stop reading."""
        for timer in self._timers.values():
            timer.cancel()
        for reading in self._reads:
            reading.cancel()

    def _begin(self, tick: float) -> None:
        """Begin to read what is due; nothing waits for what else is being read."""
        del self._timers[tick]
        measure("poller_lag", max(0.0, asyncio.get_running_loop().time() - tick) * 1000)
        for project, names in self._plan.begin(tick).items():
            reading = asyncio.create_task(self._read(project, names))
            self._reads.add(reading)
            reading.add_done_callback(self._reads.discard)

    async def _read(self, project: str, names: set[OperationName]) -> None:
        try:
            if list_is_cheaper(len(names)):
                found = await run_async(read_list(project, names), self._transport, LOG)
                await self._answer(found)
                names -= found.keys()
            await asyncio.gather(*map(self._get, names))
        except Exception as error:  # noqa: BLE001 (no waiter may be left without an answer)
            for waiter in self._plan.waiting_for(names):
                if not self._answers[waiter].done():
                    self._answers[waiter].set_exception(error)

    async def _get(self, name: OperationName) -> None:
        await self._answer({name: await run_async(attempt(get_operation(name)), self._transport, LOG)})

    async def _answer(self, found: ReadResults) -> None:
        for number, waiter in enumerate(self._plan.answer(found), 1):
            if (answer := self._answers.get(waiter)) is not None and not answer.done():
                answer.set_result(waiter.seen)
            if not number % ANSWERS_PER_TURN:
                await asyncio.sleep(0)  # What each of them does with its answer takes time: let others run between.
