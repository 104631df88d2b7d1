"""What is measured, on its way to whoever collects it.

Measurements are handed over by a thread: an ``on_kill`` runs in a signal handler, and must not wait for a lock of the
collector's that the interrupted code may hold.
"""

from __future__ import annotations

import _thread
import asyncio
import os
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["incr", "gauge", "timing"]

#: Why operations are cancelled.
CAUSES = ("kill", "timeout", "failure", "callback", "operator", "janitor", "page", "command_line", "collector")

#: Every metric: its kind, its tags, and what it says. A timing is in milliseconds, as with Airflow's own.
METRICS: dict[str, tuple[Kind, tuple[str, ...], str]] = {
    "earth_engine.operations_started": ("incr", ("dag_id",), "operations that tasks have started"),
    "earth_engine.operations_ended": (
        "incr",
        ("dag_id", "state"),
        "operations whose end a task has seen, by state: succeeded, failed, cancelled",
    ),
    "earth_engine.cancels": (
        "incr",
        ("dag_id", "cause", "outcome"),
        "operations that were to be cancelled, by cause (`CAUSES`) and by what became of them",
    ),
    "earth_engine.eecu_seconds": ("incr", ("dag_id",), "EECU-seconds of the operations whose end a task has seen"),
    "earth_engine.pending_time": ("timing", ("dag_id",), "from an operation's creation to its start"),
    "earth_engine.running_time": ("timing", ("dag_id",), "from an operation's start to its end"),
    "earth_engine.orphans": ("gauge", (), "operations that no task wants any more, at the last look"),
    "earth_engine.requests": ("incr", ("status",), "requests, by HTTP status; no_response where nobody answered"),
    "earth_engine.request_retries": ("incr", (), "requests that have to be sent again"),
    "earth_engine.poller_lag": ("timing", (), "by how much later than it should the triggerer's poller reads"),
}


class Collector(Protocol):
    """Airflow's ``Stats``."""

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, Any] | None = None) -> Any:
        """Count."""

    def gauge(self, stat: str, value: float, *, tags: dict[str, Any] | None = None) -> Any:
        """Say how much there is."""

    def timing(self, stat: str, dt: float, *, tags: dict[str, Any] | None = None) -> Any:
        """Say how long something took, in milliseconds."""


#: Returns the collector, or None if nothing is to be collected; asked once, with the first measurement.
find_collector: Callable[[], Collector | None] = lambda: None  # noqa: E731 (replaced by whoever has one)

#: Measurements, and what is called once those before it are handed over.
_waiting: SimpleQueue[tuple[str, float, dict[str, Any]] | Callable[[], None]] = SimpleQueue()
_collector: Collector | None = None
_process: int | None = None


def measure(name: str, value: float = 1, **tags: Any) -> None:
    """Hand a measurement over; never raises, never waits.

    :param name: one of `METRICS`, without ``earth_engine.``.
    :param tags: those that are None are left out.
    """
    global _collector, _process  # noqa: PLW0603 (a fork has no thread yet)
    if _process != os.getpid():
        _process = os.getpid()
        _collector = None
        with suppress(Exception):  # Whatever it is, no task depends on it.
            _collector = find_collector()
        if _collector is not None:
            _thread.start_new_thread(_hand_over, (_collector,))
    if _collector is not None:
        known = {tag: str(text) for tag, text in tags.items() if text is not None}
        _waiting.put((f"earth_engine.{name}", value, known))


def flush(timeout: float = 1.0) -> None:
    """Wait until everything is handed over: a task's process ends without any ceremony. Not on an event loop.

    :param timeout: seconds.
    """
    if _collector is None or _process != os.getpid() or asyncio._get_running_loop() is not None:  # noqa: SLF001
        return
    handed_over = _thread.allocate_lock()
    handed_over.acquire()
    _waiting.put(handed_over.release)
    handed_over.acquire(timeout=timeout)


def _hand_over(collector: Collector) -> None:
    while True:
        item = _waiting.get()
        if callable(item):
            item()
            continue
        name, value, tags = item
        kind, _, _ = METRICS[name]
        with suppress(Exception):  # Whatever it is, no task depends on it.
            if kind == "incr":
                collector.incr(name, round(value), tags=tags)
            elif kind == "gauge":
                collector.gauge(name, value, tags=tags)
            else:
                collector.timing(name, value, tags=tags)
