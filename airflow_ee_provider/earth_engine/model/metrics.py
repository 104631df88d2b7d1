"""Metrics: `measure` stores a measurement, and `flush` later sends it to Airflow's metrics backend.

Airflow calls ``on_kill`` in a signal handler. The handler must not wait for a lock of the backend that the interrupted
code may have acquired, so no measurement is sent while the handler runs.
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
CAUSES = ("kill", "timeout", "failure", "callback", "operator", "stale", "page", "command_line", "collector")

#: Each metric: its kind, its tags and its meaning. A timing is in milliseconds, as in Airflow's own metrics.
METRICS: dict[str, tuple[Kind, tuple[str, ...], str]] = {
    "earth_engine.operations_started": ("incr", ("dag_id",), "operations that tasks have started"),
    "earth_engine.operations_ended": (
        "incr",
        ("dag_id", "state"),
        "operations that a task has seen end, by state: succeeded, failed, cancelled",
    ),
    "earth_engine.cancels": (
        "incr",
        ("dag_id", "cause", "outcome"),
        "operations that the provider tried to cancel, by cause (`CAUSES`) and outcome",
    ),
    "earth_engine.eecu_seconds": ("incr", ("dag_id",), "EECU-seconds of the operations that a task has seen end"),
    "earth_engine.pending_time": ("timing", ("dag_id",), "from an operation's creation to its start"),
    "earth_engine.running_time": ("timing", ("dag_id",), "from an operation's start to its end"),
    "earth_engine.orphans": ("gauge", (), "operations that no task needed when they were last listed"),
    "earth_engine.requests": ("incr", ("status",), "requests, by HTTP status; no_response if no response came"),
    "earth_engine.request_retries": ("incr", (), "requests that were sent again"),
    "earth_engine.poller_lag": ("timing", (), "how late the triggerer's poller reads operations"),
}


class Collector(Protocol):
    """Airflow's ``Stats``."""

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, Any] | None = None) -> Any:
        """Increase a counter."""

    def gauge(self, stat: str, value: float, *, tags: dict[str, Any] | None = None) -> Any:
        """Set a gauge."""

    def timing(self, stat: str, dt: float, *, tags: dict[str, Any] | None = None) -> Any:
        """Record a duration, in milliseconds."""


#: Returns the collector; None if no metrics are collected. Each process calls it once, at its first measurement.
find_collector: Callable[[], Collector | None] = lambda: None  # noqa: E731 (the hooks replace it)

#: Measurements that are not sent yet.
_noted: deque[tuple[str, float, dict[str, Any]]] = deque()
_collector: Collector | None = None
_process: int | None = None
#: How many signal handlers are running.
_interrupted = 0


def measure(name: str, value: float = 1, **tags: Any) -> None:
    """Store a measurement until `flush` sends it. Never raises and never waits.

    :param name: One of `METRICS`, without ``earth_engine.``.
    :param tags: Tags; those that are None are omitted.
    """
    global _collector, _process  # noqa: PLW0603 (a forked process has its own collector, and no measurements yet)
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
    """Whether there are no measurements to send."""
    return not _noted or _process != os.getpid()


def flush() -> None:
    """Send the stored measurements; do nothing during `interrupting`. It may wait for the collector."""
    if is_flushed() or _interrupted:
        return
    with suppress(IndexError):  # Raised when the queue is empty. Another thread may also empty it.
        while True:
            item = _noted.popleft()
            with suppress(Exception):  # No task depends on metrics.
                _hand_over(*item)


@contextmanager
def interrupting() -> Iterator[None]:
    """Let no thread send measurements while a signal handler runs."""
    global _interrupted  # noqa: PLW0603 (a signal concerns the whole process)
    _interrupted += 1
    try:
        yield
    finally:
        _interrupted -= 1


def measure_ended(operations: Iterable[OperationDict], dag_id: str | None) -> None:
    """Measure the operations that have ended: their states, EECU use, pending time and running time."""
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
    :param cause: One of `CAUSES`.
    """
    for outcome in outcomes:
        measure("cancels", cause=cause, outcome=outcome.lower(), dag_id=dag_id)
    flush()


def _hand_over(name: str, value: float, tags: dict[str, Any]) -> None:
    kind, _, _ = METRICS[name]
    assert _collector is not None  # noqa: S101 (no measurement is stored without one)
    if kind == "incr":
        _collector.incr(name, round(value), tags=tags)
    elif kind == "gauge":
        _collector.gauge(name, value, tags=tags)
    else:
        _collector.timing(name, value, tags=tags)
