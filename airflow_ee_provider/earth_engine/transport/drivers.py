"""The two drivers: they carry out what a flow yields, in this thread or on an event loop, and contain no rules."""

from __future__ import annotations

import _thread
import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_ee_provider.earth_engine.model.limits import CONCURRENT, LARGE_ANSWER
from airflow_ee_provider.earth_engine.model.metrics import flush, measure
from airflow_ee_provider.earth_engine.protocol.effects import (
    Flow,
    LogMessage,
    Measurement,
    MonotonicTime,
    NoResponse,
    ReadOperations,
    Request,
    Response,
    SideBySide,
    Sleep,
    WallClock,
)
from airflow_ee_provider.earth_engine.protocol.reading import read_operations

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from airflow_ee_provider.earth_engine.protocol.effects import Effect
    from airflow_ee_provider.earth_engine.protocol.reading import ReadResults
    from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport, SyncTransport

T = TypeVar("T")
Reader = Callable[[ReadOperations], Awaitable["ReadResults"]]


class Log(Protocol):
    """The methods that this package calls on a logger, which is the standard library's or Airflow's."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Log a line at level INFO."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Log a line at level WARNING."""

    def error(self, message: str, /, *args: Any) -> Any:
        """Log a line at level ERROR."""


#: Tasks of the event loop, which itself keeps only weak references to them.
_UNDER_WAY: set[asyncio.Task[Any]] = set()


def in_background(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run a coroutine to its end, even if the caller is cancelled while it waits for it."""
    task = asyncio.create_task(coroutine)
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
    return task


def run(flow: Flow[T], transport: SyncTransport, log: Log) -> T:
    """Drive a flow to its result."""
    answer: Any = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = None
        if isinstance(effect, Request):
            answer = _measured(transport.send(effect))
        elif isinstance(effect, Sleep):
            time.sleep(effect.seconds)
        elif isinstance(effect, ReadOperations):
            time.sleep(effect.after)
            answer = run(_reading(effect), transport, log)
        elif isinstance(effect, SideBySide):
            answer = _in_threads(effect, transport, log)
        else:
            answer = _at_once(effect, log)


def _in_threads(effect: SideBySide, transport: SyncTransport, log: Log) -> list[Any]:
    """Drive flows in threads; this thread logs for them and receives their results.

    An ``on_kill`` does this in a signal handler, and may interrupt the same code of its task. So nothing here waits for
    a lock that the interrupted thread may have acquired: neither a logger's lock nor the one with which
    concurrent.futures and threading start threads.
    """
    results: dict[int, Any] = {}
    errors: list[BaseException] = []
    calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def done(number: int, result: Any) -> None:
        results[number] = result
        if isinstance(result, _Raised):
            errors.append(result.error)
        else:
            effect.as_done(result)

    if len(effect.flows) == 1:
        done(0, run(effect.flows[0], transport, log))
        return [results[0]]
    todo: SimpleQueue[tuple[int, Flow[Any]]] = SimpleQueue()
    for numbered in enumerate(effect.flows):
        todo.put(numbered)

    def work() -> None:
        with suppress(Empty):
            while True:
                number, flow = todo.get_nowait()
                calls.put(_result_of(flow, transport, _Relay(log, calls), partial(done, number)))

    try:
        _start_threads(work, min(len(effect.flows), CONCURRENT))
        while len(results) < len(effect.flows):
            calls.get()()
    finally:
        with suppress(Empty):
            while True:
                todo.get_nowait()
    if errors:  # Raised only now: one flow's error must not stop the others, such as cancels.
        raise errors[0]
    return [results[number] for number in range(len(effect.flows))]


def _start_threads(work: Callable[[], None], number: int) -> None:
    """Call ``work`` in this number of threads; in this thread if the system can start none."""
    for started in range(number):
        try:
            _thread.start_new_thread(work, ())
        except RuntimeError:
            if not started:
                work()
            return


@dataclass(frozen=True)
class _Raised:
    """The exception that a flow has raised, in place of its result."""

    error: BaseException


def _result_of(flow: Flow[Any], transport: SyncTransport, log: Log, done: Callable[[Any], None]) -> Callable[[], None]:
    """Drive a flow, and return the call that delivers its result or its exception."""
    try:
        return partial(done, run(flow, transport, log))
    except BaseException as error:  # noqa: BLE001 (if it ended the thread, the caller would wait without end)
        return partial(done, _Raised(error))


@dataclass(frozen=True)
class _Relay:
    """A log whose lines another thread writes."""

    log: Log
    calls: SimpleQueue[Callable[[], Any]]

    def info(self, message: str, /, *args: Any) -> None:
        self.calls.put(partial(self.log.info, message, *args))

    def warning(self, message: str, /, *args: Any) -> None:
        self.calls.put(partial(self.log.warning, message, *args))

    def error(self, message: str, /, *args: Any) -> None:
        self.calls.put(partial(self.log.error, message, *args))


@dataclass(frozen=True)
class _Ended:
    """The result of a flow that has returned. A thread cannot pass on a `StopIteration`."""

    result: Any


def _next(flow: Flow[Any], answer: Any) -> Effect | _Ended:
    try:
        return flow.send(answer)
    except StopIteration as stop:
        return _Ended(stop.value)


async def run_async(flow: Flow[T], transport: AiohttpTransport, log: Log, read: Reader | None = None) -> T:
    """Drive a flow to its result on the event loop.

    :param read: Reads operations in place of requests through the transport.
    """
    answer: Any = None
    while True:
        # A large response is parsed in a thread, so that the event loop is not blocked.
        is_large = isinstance(answer, Response) and len(answer.body) > LARGE_ANSWER
        effect = await asyncio.to_thread(_next, flow, answer) if is_large else _next(flow, answer)
        if isinstance(effect, _Ended):
            result: T = effect.result
            return result
        answer = None
        if isinstance(effect, Request):
            answer = _measured(await transport.send(effect))
        elif isinstance(effect, Sleep):
            await asyncio.sleep(effect.seconds)
        elif isinstance(effect, ReadOperations) and read is not None:
            answer = await read(effect)
        elif isinstance(effect, ReadOperations):
            await asyncio.sleep(effect.after)
            answer = await run_async(_reading(effect), transport, log)
        elif isinstance(effect, SideBySide):
            answer = await _on_the_loop(effect, transport, log, read)
        else:
            answer = _at_once(effect, log)


async def _on_the_loop(effect: SideBySide, transport: AiohttpTransport, log: Log, read: Reader | None) -> list[Any]:
    async def drive(flow: Flow[Any]) -> Any:
        result = await run_async(flow, transport, log, read)
        effect.as_done(result)
        return result

    results = await asyncio.gather(*map(drive, effect.flows), return_exceptions=True)
    for result in results:  # Raised only now: one flow's error must not stop the others, such as cancels.
        if isinstance(result, BaseException):
            raise result
    return results


def _reading(effect: ReadOperations) -> Flow[ReadResults]:
    until = None if effect.within is None else time.monotonic() + effect.within
    return read_operations(effect.names, until, effect.most_gets)


def _measured(answer: Response | NoResponse) -> Response | NoResponse:
    measure("requests", status=answer.status if isinstance(answer, Response) else "no_response")
    flush()
    return answer


def _at_once(effect: MonotonicTime | WallClock | LogMessage | Measurement, log: Log) -> float | None:
    if isinstance(effect, MonotonicTime):
        return time.monotonic()
    if isinstance(effect, WallClock):
        return time.time()
    if isinstance(effect, Measurement):
        measure(effect.name, effect.value)
        return None
    write = log.warning if effect.warning else log.info
    write("%s", effect.message)
    return None
