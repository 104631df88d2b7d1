"""One poller for all waits of a client on its event loop.

`PollPlan` decides at which tick an operation is read, and which waiters get the result. It has no clock and no socket.
`SharedPoller` carries out the plan.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.protocol.api_methods import get_operation
from airflow_ee_provider.earth_engine.protocol.reading import list_is_cheaper, read_list
from airflow_ee_provider.earth_engine.protocol.retries import attempt
from airflow_ee_provider.earth_engine.transport.drivers import run_async

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults
    from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport

#: The poller's own log: it works for many tasks.
LOG = logging.getLogger(__name__)

#: How many waiters get their results in one turn of the event loop.
ANSWERS_PER_TURN = 50

#: The fewest seconds before a read. A triggerer starts its triggers one by one, and they have to share a tick.
SHORTEST_WAIT = 0.25


@dataclass(eq=False, slots=True)
class Waiter:
    """A wait for the result of a `ReadOperations`.

    :param tick: When its operations are read.
    :param is_due: Whether that time has come.
    :param seen: The operations that have been read for it.
    """

    read: ReadOperations
    tick: float
    is_due: bool = False
    seen: ReadResults = field(default_factory=dict)


class PollPlan:
    """The planned ticks, and the waiters of each.

    A new waiter joins a tick that is planned in the second half of its interval. So the waits of one client share their
    ticks, and one list serves them all. Each is read once or twice in its interval, and never later.
    """

    def __init__(self) -> None:
        self.ticks: dict[float, set[Waiter]] = {}
        #: Tuples: nearly all operations have one waiter, and a set of one takes four times the memory.
        self._by_name: dict[OperationName, tuple[Waiter, ...]] = {}

    def add(self, read: ReadOperations, now: float) -> Waiter:
        """Plan a tick for a new waiter."""
        latest = now + max(read.after, SHORTEST_WAIT)
        planned = [tick for tick in self.ticks if now + read.after / 2 <= tick <= latest]
        waiter = Waiter(read, max(planned, default=latest))
        self.ticks.setdefault(waiter.tick, set()).add(waiter)
        for name in read.names:
            self._by_name[name] = (*self._by_name.get(name, ()), waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter, which has its result or no longer needs it."""
        self.ticks.get(waiter.tick, set()).discard(waiter)
        for name in waiter.read.names:
            if others := tuple(one for one in self._by_name.get(name, ()) if one is not waiter):
                self._by_name[name] = others
            else:
                self._by_name.pop(name, None)

    def waiting_for(self, names: Iterable[OperationName]) -> set[Waiter]:
        """Return the waiters of any of these operations."""
        return {waiter for name in names for waiter in self._by_name.get(name, ())}

    def begin(self, tick: float) -> dict[str, set[OperationName]]:
        """Begin a tick; return the operations to read, by project."""
        wanted: defaultdict[str, set[OperationName]] = defaultdict(set)
        for waiter in self.ticks.pop(tick, ()):
            waiter.is_due = True
            for name in waiter.read.names:
                if name not in waiter.seen:
                    wanted[name.project].add(name)
        return dict(wanted)

    def answer(self, found: ReadResults) -> list[Waiter]:
        """Store what was read; return the waiters that have all their operations, or one that has ended."""
        answered: dict[Waiter, None] = {}
        for name, operation in found.items():
            ended = not isinstance(operation, EarthEngineError) and operation.done
            for waiter in self._by_name.get(name, ()):
                if ended or waiter.is_due:
                    waiter.seen[name] = operation
                    if ended or len(waiter.seen) == len(waiter.read.names):
                        answered[waiter] = None
        return list(answered)


class SharedPoller:
    """Reads operations for many waiters with few requests: at each tick, a list or gets for each project.

    :param transport: Sends its requests.
    """

    def __init__(self, transport: AiohttpTransport) -> None:
        self._transport = transport
        self._plan = PollPlan()
        self._answers: dict[Waiter, asyncio.Future[ReadResults]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._reads: set[asyncio.Task[None]] = set()

    async def read(self, read: ReadOperations) -> ReadResults:
        """Return the operations when they are due; earlier if one of them has ended."""
        if not read.names:
            return {}
        loop = asyncio.get_running_loop()
        waiter = self._plan.add(read, loop.time())
        answer = self._answers[waiter] = loop.create_future()
        if waiter.tick not in self._timers:
            # In a new context: the lines that a read logs must not go to the log of the first task.
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
        """Begin to read the operations that are due, without waiting for other reads."""
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
                await asyncio.sleep(0)  # The waiters need time for their results. Others run in between.
