"""One poller that serves every waiter of an event loop; `PollPlan` decides, this carries it out."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.protocol.api_methods import get_operation
from airflow_ee_provider.earth_engine.protocol.poll_plan import Get, PollPlan
from airflow_ee_provider.earth_engine.protocol.reading import read_list
from airflow_ee_provider.earth_engine.protocol.retries import attempt
from airflow_ee_provider.earth_engine.transport.drivers import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from airflow_ee_provider.earth_engine.protocol.effects import ReadOperations
    from airflow_ee_provider.earth_engine.protocol.poll_plan import List, Waiter
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults
    from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport

#: Where the poller logs: it works for many tasks, and none of their logs is its own.
LOG = logging.getLogger(__name__)

#: Seconds to wait for more waiters before reading; the longest that this is repeated for; how many new ones are few
#: enough to stop waiting.
COALESCE, COALESCE_AT_MOST, FEW = 0.01, 0.5, 20

#: How many are answered in one turn of the event loop.
ANSWERS_PER_TURN = 50


class SharedPoller:
    """Reads operations for everybody who waits for some, with as few requests as that takes.

    :param transport: sends its requests.
    """

    def __init__(self, transport: AiohttpTransport) -> None:
        self._transport = transport
        self._plan = PollPlan()
        self._answers: dict[Waiter, asyncio.Future[ReadResults]] = {}
        self._news = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._reads: set[asyncio.Task[None]] = set()

    async def read(self, read: ReadOperations) -> ReadResults:
        """Answer with what is known of the operations, when it is time; earlier if one of them has ended."""
        if not read.names:
            return {}
        loop = asyncio.get_running_loop()
        waiter = self._plan.add(read, loop.time())
        answer = self._answers[waiter] = loop.create_future()
        self._news.set()
        if self._poller is None or self._poller.done():
            self._poller = self._start(self._poll(), lambda: self._plan.waiters)
        try:
            return await asyncio.wait_for(answer, None if read.within is None else read.after + read.within)
        except asyncio.TimeoutError:
            return dict(waiter.seen)
        finally:
            self._plan.remove(waiter)
            del self._answers[waiter]

    def close(self) -> None:
        """Stop reading."""
        for task in (*self._reads, *([self._poller] if self._poller else ())):
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], for_whom: Callable[[], Iterable[Waiter]]) -> asyncio.Task[None]:
        """Start what reads for some waiters; whatever goes wrong, none of them is left waiting."""

        def tell(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()):
                for answer in [self._answers[waiter] for waiter in for_whom()]:
                    if not answer.done():
                        answer.set_exception(error)

        # In a context of its own: what it logs must not go to the log of whoever happened to come first.
        task = contextvars.Context().run(asyncio.create_task, work)
        task.add_done_callback(tell)
        return task

    async def _poll(self) -> None:
        """Begin what is due, without waiting for its answers."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            due = self._plan.next_due()
            if due is None or due > loop.time():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), due and due - loop.time())
                continue
            measure("poller_lag", max(0.0, loop.time() - due) * 1000)
            await self._coalesce()
            self._begin(self._plan.begin(loop.time()))

    async def _coalesce(self) -> None:
        """Wait a moment, and on while many are coming: a triggerer starts its triggers one by one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + COALESCE_AT_MOST
        known = FEW
        while loop.time() < until:
            await asyncio.sleep(COALESCE)
            if len(self._plan.waiters) <= known:
                return
            known = len(self._plan.waiters)

    def _begin(self, reads: Iterable[Get | List]) -> None:
        for read in reads:
            work = self._get(read) if isinstance(read, Get) else self._list(read)
            names = [read.name] if isinstance(read, Get) else [*read.names, *read.also]
            task = self._start(work, partial(self._plan.waiting_for, names))
            self._reads.add(task)
            task.add_done_callback(self._reads.discard)

    async def _get(self, get: Get) -> None:
        try:
            found = await run_async(attempt(get_operation(get.name)), self._transport, LOG)
        finally:
            self._plan.got(get)
        await self._answer({get.name: found})

    async def _list(self, reading: List) -> None:
        found, pages = await run_async(read_list(reading.project, reading.names, reading.also), self._transport, LOG)
        await self._answer(found)
        self._begin(self._plan.listed(reading, found, pages))
        self._news.set()

    async def _answer(self, found: ReadResults) -> None:
        for number, waiter in enumerate(self._plan.answer(found, asyncio.get_running_loop().time()), 1):
            if (answer := self._answers.get(waiter)) is not None and not answer.done():
                answer.set_result(waiter.seen)
            if not number % ANSWERS_PER_TURN:
                await asyncio.sleep(0)  # What each of them does with its answer takes time: let others run between.
