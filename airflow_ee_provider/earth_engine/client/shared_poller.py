"""Many that wait on operations in one event loop, and one poller that looks for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.client.drivers import run_async
from airflow_ee_provider.earth_engine.errors import EarthEngineError
from airflow_ee_provider.earth_engine.flows.calls import get_operation
from airflow_ee_provider.earth_engine.flows.reading import list_is_cheaper, read_list
from airflow_ee_provider.earth_engine.flows.retrying import attempt

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from airflow_ee_provider.earth_engine.client.transports import AiohttpTransport
    from airflow_ee_provider.earth_engine.flows.effects import ReadOperations
    from airflow_ee_provider.earth_engine.flows.reading import ReadResults
    from airflow_ee_provider.earth_engine.operation_names import OperationName

#: Where the poller logs: it works for many tasks, and none of their logs is its own.
LOG = logging.getLogger(__name__)

#: Seconds to wait for more requests before reading; the longest that this is repeated for; how many new ones are few
#: enough to stop waiting.
COALESCE, COALESCE_AT_MOST, FEW = 0.01, 0.5, 20

#: How many are answered in one turn of the event loop.
AT_ONCE = 50


@dataclass(eq=False, slots=True)
class _PendingRead:
    """A look that somebody waits for.

    :param readable_from: the earliest time at which it may be answered from somebody else's list.
    :param begun: whether its operations are being read.
    """

    look: ReadOperations
    readable_from: float
    due: float
    answer: asyncio.Future[ReadResults]
    projects: frozenset[str]
    seen: ReadResults = field(default_factory=dict)
    begun: bool = False

    def __lt__(self, other: _PendingRead) -> bool:
        return self.due < other.due

    @property
    def missing(self) -> list[OperationName]:
        return [name for name in self.look.names if name not in self.seen]


class SharedPoller:
    """Reads operations for everybody who waits for some, with as few requests as that takes.

    Nobody waits for anybody else: a look that fails, or that is not waited for any more, concerns only itself.

    :param transport: sends its requests.
    """

    def __init__(self, transport: AiohttpTransport) -> None:
        self._transport = transport
        self._wanted: set[_PendingRead] = set()
        self._next: list[_PendingRead] = []  # A heap, by when they are due; some may be begun or gone.
        self._by_name: dict[OperationName, set[_PendingRead]] = defaultdict(set)
        self._pages: dict[str, int] = {}
        self._getting: set[OperationName] = set()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, look: ReadOperations) -> ReadResults:
        """Answer with what is known of the operations, when it is time; earlier if one of them has ended."""
        if not look.names:
            return {}
        loop = asyncio.get_running_loop()
        now, projects = loop.time(), frozenset(name.project for name in look.names)
        wanted = _PendingRead(look, now + look.after / 2, now + look.after, loop.create_future(), projects)
        self._wanted.add(wanted)
        heappush(self._next, wanted)
        for name in look.names:
            self._by_name[name].add(wanted)
        self._news.set()
        if not self._tasks:
            self._start(self._poll(), self._by_name)
        try:
            return await asyncio.wait_for(wanted.answer, None if look.within is None else look.after + look.within)
        except asyncio.TimeoutError:
            return dict(wanted.seen)
        finally:
            self._wanted.discard(wanted)
            for name in look.names:
                self._by_name[name].discard(wanted)
                if not self._by_name[name]:
                    del self._by_name[name]

    def close(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None], names: Collection[OperationName]) -> None:
        """Start what reads these operations; whatever goes wrong, nobody is left waiting for them."""

        def finish(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                for wanted in {wanted for name in names for wanted in self._by_name.get(name, ())}:
                    if not wanted.answer.done():
                        wanted.answer.set_exception(error)

        # In a context of its own: what it logs must not go to the log of whoever happened to come first.
        task = contextvars.Context().run(asyncio.create_task, work)
        self._tasks.add(task)
        task.add_done_callback(finish)

    async def _poll(self) -> None:
        """Begin what is due, without waiting for its answers."""
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            while self._next and (self._next[0].begun or self._next[0] not in self._wanted):
                heappop(self._next)
            moment = self._next[0].due if self._next else None
            if moment is None or moment > loop.time():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), moment and moment - loop.time())
                continue
            await self._gather()
            self._begin(loop.time())

    async def _gather(self) -> None:
        """Wait a moment, and on while many are coming: a triggerer starts its triggers one by one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + COALESCE_AT_MOST
        known = FEW
        while loop.time() < until:
            await asyncio.sleep(COALESCE)
            if len(self._wanted) <= known:
                return
            known = len(self._wanted)

    def _begin(self, now: float) -> None:
        idle = [wanted for wanted in self._wanted if not wanted.begun]
        due = [wanted for wanted in idle if wanted.due <= now]
        for project in {name.project for wanted in due for name in wanted.missing}:
            others = [w for w in idle if w.readable_from <= now < w.due and w.projects == {project}]
            names = {name for wanted in due for name in wanted.missing if name.project == project}
            also = {name for wanted in others for name in wanted.missing}
            if list_is_cheaper(len(names | also), self._pages.get(project)):
                self._start(self._list(project, names, others), names | also)
            else:
                # A list that was long the last time is tried again some day.
                self._pages[project] = max(1, self._pages.get(project, 1) - 1)
                urgent = {name for wanted in due for name in wanted.look.names if not wanted.look.after}
                for name in names - (self._getting - urgent):
                    self._start(self._get(name), [name])
        for wanted in due:
            wanted.begun = True

    async def _get(self, name: OperationName) -> None:
        self._getting.add(name)
        try:
            found = await run_async(attempt(get_operation(name)), self._transport, LOG)
        finally:
            self._getting.discard(name)  # Before it is delivered: who comes later has to ask again.
        await self._deliver({name: found})

    async def _list(self, project: str, due: Collection[OperationName], others: list[_PendingRead]) -> None:
        """Read a list's pages; what it does not show, and is due, is asked for by its name."""
        for wanted in others:
            wanted.begun = True
        also = {name for wanted in others for name in wanted.missing}
        found, pages = await run_async(read_list(project, due, also), self._transport, LOG)
        if pages is not None:
            self._pages[project] = pages
        await self._deliver(found)
        for name in due:
            if name not in found:
                self._start(self._get(name), [name])
        for wanted in others:  # Those that it has not served are due in their own time.
            wanted.begun = False
            heappush(self._next, wanted)
        self._news.set()

    async def _deliver(self, found: ReadResults) -> None:
        """Answer those that have waited long enough, and those of whose operations one has ended."""
        now = asyncio.get_running_loop().time()
        answered: dict[_PendingRead, None] = {}
        for name, operation in found.items():
            ended = not isinstance(operation, EarthEngineError) and operation.done
            for wanted in self._by_name.get(name, ()):
                if ended or wanted.readable_from <= now:
                    wanted.seen[name] = operation
                    if ended or len(wanted.seen) == len(wanted.look.names):
                        answered[wanted] = None
        for number, wanted in enumerate(answered, 1):
            if not wanted.answer.done():
                wanted.answer.set_result(wanted.seen)
            if not number % AT_ONCE:
                await asyncio.sleep(0)  # What each of them does with its answer takes time: let others run between.
