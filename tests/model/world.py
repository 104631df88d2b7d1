"""The base of the Airflow model: a virtual clock, processes, and an emulated Earth Engine.

A process is a set of greenlets, one for each of its threads. A request, an XCom access or a sleep of the provider's
code calls `World.step`: it counts, writes the timeline, runs the strike of this step, and lets other threads run.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from email.utils import formatdate
from heapq import heappop, heappush
from itertools import count
from queue import Empty
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request, Response
from airflow_ee_provider.emulator.faults import ERRORS, ApiError
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from airflow_ee_provider.tracking import store

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "p"

#: How long a request to Earth Engine and one to Airflow take, in seconds.
REQUEST, QUESTION = 0.05, 0.01


class Dead(BaseException):
    """Raised at the next step of a killed process, so that its code has no further effect."""


class Process:
    """A process: its threads, the pending signals of its main thread, and the provider's global state in it."""

    def __init__(self, world: World, kind: str) -> None:
        self.world, self.kind = world, kind
        self.alive = True
        self.threads: list[greenlet] = []
        self.signals: deque[Callable[[], None]] = deque()
        self.listeners: list[Any] = []
        #: The task instance in its context.
        self.ti: Any = None
        #: The state after a failure, and when a rescheduled sensor starts again.
        self.after_failure, self.rescheduled_to = "failed", 0.0
        #: Its operator, whether `execute` or a resumption is running, and whether an `execution_timeout` applies now.
        self.operator: Any = None
        self.is_executing = self.is_timed = False
        #: Whether it has received a signal, and whether Airflow is terminating it.
        self.was_told = self.is_to_end = False
        self.ended_at = float("inf")
        #: When its suspended machine continues.
        self.still_until = -float("inf")
        #: Its values of `World.globals`.
        self.globals = [value for _, _, value in world.globals]

    def start(self, work: Callable[[], None]) -> None:
        """Start a thread. The first one is the main thread, which receives the signals."""

        def run() -> None:
            with suppress(Dead):
                work()

        thread = greenlet(run, self.world.hub)
        thread.process = self
        self.threads.append(thread)
        self.world.at(self.world.now, lambda: self.world.resume(thread))

    @property
    def main(self) -> greenlet:
        return self.threads[0]

    @property
    def is_running(self) -> bool:
        return self.alive and not self.main.dead

    def signal(self, handler: Callable[[], None]) -> None:
        """Interrupt the main thread with a signal handler."""
        self.was_told = True
        self.signals.append(handler)
        self.world.at(self.world.now, lambda: self.world.resume(self.main))

    def kill(self) -> None:
        """Send SIGKILL: the process's code has no further effect."""
        if self.alive:
            self.world.note(f"{self.kind}: is gone")
            self.ended_at = self.world.now
        self.alive = False


class World:
    """The clock, the queue of scheduled calls, and Earth Engine.

    :param strikes: what to call before a step, by the step's number.
    """

    def __init__(self, strikes: dict[int, Callable[[], None]]) -> None:
        self.now = 1_000_000.0
        self.hub = getcurrent()
        self.strikes = strikes
        self.steps = 0
        self.timeline: list[str] = []
        self._began = self.now
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.service = Service(Behaviour(pending_seconds=0, run_seconds=60, cancel_seconds=2))
        self.service._random.seed(1)
        self.service.clock = _Clock(self)
        #: Called after each request that Earth Engine has carried out.
        self.watchers: list[Callable[[str, str, Process | None], None]] = []
        #: The faults of the next requests: ``lost before``, ``lost after``, ``refused``.
        self.faults: deque[str] = deque()
        #: When a request last met a fault.
        self.last_fault = 0.0
        #: How long the next responses of Airflow take, in seconds.
        self.slow_answers: list[float] = []
        #: Until when no connection can be read.
        self.connection_away_until = 0.0
        self.current: Process | None = None
        #: Module attributes of which each simulated process has its own value: module, name, initial value.
        self.globals: list[tuple[Any, str, Any]] = [(store, "_written", None)]
        #: How many requests to Airflow each thread waits for: a signal handler may send one while another is open.
        self._asking: Counter[greenlet] = Counter()

    # Time.

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Schedule a call at a time."""
        heappush(self._queue, (moment, next(self._numbers), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Schedule a call after some seconds."""
        self.at(self.now + seconds, call)

    def next_moment(self) -> float:
        """Return the time of the next scheduled call."""
        return self._queue[0][0] if self._queue else float("inf")

    def happen(self) -> None:
        """Run the next scheduled call."""
        moment, _, call = heappop(self._queue)
        self.now = max(self.now, moment)
        call()

    def resume(self, thread: greenlet) -> None:
        """Run a thread until it waits."""
        process: Process = thread.process
        if thread.dead or not process.alive:
            return
        if self.now < process.still_until:
            self.at(process.still_until, lambda: self.resume(thread))
            return
        self.current = process
        for (module, name, _), value in zip(self.globals, process.globals, strict=True):
            setattr(module, name, value)
        thread.switch()
        process.globals = [getattr(module, name) for module, name, _ in self.globals]
        for module, name, at_first in self.globals:
            setattr(module, name, at_first)
        self.current = None

    def wait(self, is_over: Callable[[], bool], deadline: float = float("inf")) -> None:
        """Let other threads run until a condition is true or the deadline has passed; run signal handlers meanwhile."""
        thread = getcurrent()
        process: Process = thread.process
        if deadline < float("inf"):
            self.at(deadline, lambda: self.resume(thread))
        while True:
            self.hub.switch()
            if not process.alive:
                raise Dead
            while thread is process.main and process.signals:
                process.signals.popleft()()
            if is_over() or self.now >= deadline:
                return

    def sleep(self, seconds: float) -> None:
        """Sleep. More than a second has two steps: at its start and in its middle."""
        self.check()
        if getcurrent() is self.hub:
            return
        half, end = self.now + seconds / 2, self.now + seconds
        if seconds > 1:
            self.step(f"sleeps {seconds:.1f} s", 0.0)
            self.wait(lambda: False, half)
            self.step("sleeps on", 0.0)
        self.wait(lambda: False, end)

    # Steps.

    def note(self, what: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(f"{self.now - self._began:8.2f}  {what}")

    def check(self) -> None:
        """Stop the code of a killed process or event loop."""
        if self.current is not None and not self.current.alive:
            raise Dead
        if self.current is None and getattr(asyncio._get_running_loop(), "is_dead", False):
            raise Dead

    def strike(self, what: str) -> None:
        """Count a step, and run the strike before it."""
        number = self.steps
        self.steps += 1
        self.note(f"{number:3}  {self.current.kind if self.current else 'triggerer'}: {what}")
        if happen := self.strikes.get(number):
            happen()
            self.check()

    def step(self, what: str, seconds: float = QUESTION) -> None:
        """Carry out a step, which takes some time."""
        self.check()
        thread = getcurrent()
        asks = seconds == QUESTION
        self._asking[thread] += asks
        try:
            self.strike(what)
            if thread is not self.hub:
                takes = self.slow_answers.pop() if asks and self.slow_answers else seconds
                self.wait(lambda: False, self.now + takes)
        finally:
            self._asking[thread] -= asks

    @property
    def is_asking(self) -> bool:
        """Whether the running signal handler has interrupted a request of its thread to Airflow."""
        return self._asking[getcurrent()] > 0

    # Threads.

    def start_thread(self, work: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Replace `_thread.start_new_thread`."""
        assert self.current is not None
        self.current.start(lambda: work(*args))

    def lock(self) -> Any:
        """Replace a lock of each process."""
        return _Lock(self)

    def queue(self) -> Any:
        """Replace `queue.SimpleQueue`."""
        return _Queue(self)

    # Earth Engine.

    def lose_connection(self) -> None:
        """Let no process read a connection for some seconds: tries that begin then fail."""
        self.connection_away_until = self.now + 15.0

    def end_all(self) -> None:
        """End the task's operations now."""
        for name, operation in self.service.operations.items():
            if operation.description.startswith("mine") and not operation.done(self.now):
                self.service.finish(name)

    def answer(self, request: Request) -> Response | NoResponse:
        """Return Earth Engine's response to a request."""
        fault = self.faults.popleft() if self.faults else ""
        if fault:
            self.last_fault = self.now
            self.note(f"     the request is {fault}")
        if fault == "lost before":
            return NoResponse("ConnectionResetError")
        try:
            if fault == "refused":
                raise ERRORS["unavailable"]
            status, payload = 200, self._act(request)
        except ApiError as error:
            status, payload = error.http_status, error.as_json()
        if status == 200:
            for watch in self.watchers:
                watch(request.method, request.path, self.current)
        if fault == "lost after":
            return NoResponse("ConnectionResetError")
        return Response(status, json.dumps(payload).encode(), {"date": formatdate(self.now, usegmt=True)})

    def _act(self, request: Request) -> dict[str, Any]:
        path, _, method = request.path.partition(":")
        if request.method == "GET" and path.endswith("/operations"):
            query = dict(request.query)
            return self.service.list(PROJECT, int(query.get("pageSize", 0)), query.get("pageToken", ""))
        if request.method == "GET":
            return self.service.get(path)
        if method == "cancel":
            return self.service.cancel(path)
        if method == "export":
            return self.service.start(PROJECT, path.rpartition("/")[2], request.body or b"")
        raise AssertionError(request)

    def send(self, request: Request) -> Response | NoResponse:
        """Replace a blocking transport."""
        self.step(f"{request.method} {request.path}", REQUEST / 2)
        answer = self.answer(request)
        self.step("  … its answer", REQUEST / 2)
        return answer

    async def send_async(self, request: Request) -> Response | NoResponse:
        """Replace a transport on an event loop."""
        self.check()
        self.strike(f"{request.method} {request.path}")
        await asyncio.sleep(REQUEST / 2)
        answer = self.answer(request)
        self.strike("  … its answer")
        await asyncio.sleep(REQUEST / 2)
        return answer


class _Clock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now


class _Lock:
    """A lock that is separate for each process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: dict[Process, greenlet] = {}

    def __enter__(self) -> None:
        process, thread = self._world.current, getcurrent()
        assert process is not None
        while process in self._held:
            assert self._held[process] is not thread, "a signal handler waits for a lock that its own thread holds"
            self._world.step("waits for a lock", QUESTION / 2)
        self._held[process] = thread

    def __exit__(self, *_: object) -> None:
        for process, thread in list(self._held.items()):
            if thread is getcurrent():
                del self._held[process]


class _Queue:
    def __init__(self, world: World) -> None:
        self._world, self._items = world, deque[Any]()
        self._waiting: list[greenlet] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        waiting, self._waiting = self._waiting, []
        for thread in waiting:
            self._world.at(self._world.now, lambda thread=thread: self._world.resume(thread))  # type: ignore[misc]

    def get(self, timeout: float | None = None) -> Any:
        deadline = float("inf") if timeout is None else self._world.now + timeout
        while not self._items:
            if self._world.now >= deadline:
                raise Empty
            self._waiting.append(getcurrent())
            self._world.wait(lambda: bool(self._items), deadline)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise Empty
        return self._items.popleft()
