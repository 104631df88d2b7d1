"""Metrics: noted where they are measured, and handed over to Airflow's metrics backend between two steps.

An ``on_kill`` runs in a signal handler. It must not wait for a lock of the backend that the interrupted code may have
locked, so nothing is handed over during it.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_ee_provider.earth_engine.model.results import OperationDict

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

#: Measurements that are not handed over yet.
_noted: deque[tuple[str, float, dict[str, Any]]] = deque()
_collector: Collector | None = None
_process: int | None = None
#: How many signal handlers are running.
_interrupted = 0


def measure(name: str, value: float = 1, **tags: Any) -> None:
    """Note a measurement, for `flush` to hand over; never raises, never waits.

    :param name: one of `METRICS`, without ``earth_engine.``.
    :param tags: Tags; those that are None are omitted.
    """
    global _collector, _process  # noqa: PLW0603 (a fork has a collector of its own, and nothing noted)
    if _process != os.getpid():
        _process = os.getpid()
        _noted.clear()
        _collector = None
        with suppress(Exception):  # No task depends on metrics.
            _collector = find_collector()
    if _collector is not None:
        known = {tag: str(text) for tag, text in tags.items() if text is not None}
        _noted.append((f"earth_engine.{name}", value, known))


def is_flushed() -> bool:
    """Whether there is nothing to hand over."""
    return not _noted or _process != os.getpid()


def flush() -> None:
    """Hand over what is noted; while a handler is `interrupting`, do nothing. It may wait for the collector."""
    if is_flushed() or _interrupted:
        return
    with suppress(IndexError):  # Until it is empty; another thread may take some of it.
        while True:
            item = _noted.popleft()
            with suppress(Exception):  # No task depends on metrics.
                _hand_over(*item)


@contextmanager
def interrupting() -> Iterator[None]:
    """Hand nothing over, in no thread, while a signal handler runs."""
    global _interrupted  # noqa: PLW0603 (a process has its signals in common)
    _interrupted += 1
    try:
        yield
    finally:
        _interrupted -= 1


def measure_ended(operations: Iterable[OperationDict], dag_id: str | None) -> None:
    """Count how operations have ended, what they have used, and how long they have waited and run."""
    for operation in operations:
        if not operation["done"]:
            continue
        measure("operations_ended", dag_id=dag_id, state=operation["state"].lower())
        measure("eecu_seconds", operation["batch_eecu_usage_seconds"] or 0, dag_id=dag_id)
        if operation["create_time"] and operation["start_time"]:
            pending = datetime.fromisoformat(operation["start_time"]) - datetime.fromisoformat(operation["create_time"])
            measure("pending_time", max(0.0, pending.total_seconds() * 1000), dag_id=dag_id)
        if operation["duration_seconds"] is not None:
            measure("running_time", operation["duration_seconds"] * 1000, dag_id=dag_id)
    flush()


def measure_cancels(outcomes: Iterable[str], cause: str, dag_id: str | None = None) -> None:
    """Count the outcomes of cancels, by their cause.

    :param outcomes: `CancelOutcome`s, or their values.
    :param cause: one of `CAUSES`.
    """
    for outcome in outcomes:
        measure("cancels", cause=cause, outcome=outcome.lower(), dag_id=dag_id)
    flush()


def _hand_over(name: str, value: float, tags: dict[str, Any]) -> None:
    kind, _, _ = METRICS[name]
    assert _collector is not None  # noqa: S101 (nothing is noted without one)
    if kind == "incr":
        _collector.incr(name, round(value), tags=tags)
    elif kind == "gauge":
        _collector.gauge(name, value, tags=tags)
    else:
        _collector.timing(name, value, tags=tags)
