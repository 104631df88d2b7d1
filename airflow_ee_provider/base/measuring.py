"""What a task measures of its operations; which metrics there are says `earth_engine.metrics`."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from airflow_ee_provider.base.process import run_with_timeout
from airflow_ee_provider.earth_engine.model.metrics import flush, interrupting, is_flushed, measure
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_ee_provider.earth_engine.model.results import OperationDict

T = TypeVar("T")

#: Seconds that a collector has to take what a kill has measured: it may be in a lock that the kill has interrupted.
COLLECTED_WITHIN = 1.0


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


def measure_cancels(outcomes: Iterable[CancelOutcome | str], cause: str, dag_id: str | None = None) -> None:
    """Count the outcomes of cancels, by their cause.

    :param cause: one of `CAUSES`.
    """
    for outcome in outcomes:
        measure("cancels", cause=cause, outcome=CancelOutcome(outcome).value.lower(), dag_id=dag_id)
    flush()


def measured_at_its_end(on_kill: Callable[[T], None]) -> Callable[[T], None]:
    """Let an ``on_kill`` wait for no collector: what it measures is handed over when all else is done."""

    @wraps(on_kill)
    def measured(task: T) -> None:
        with interrupting():
            on_kill(task)
        if not is_flushed():
            with suppress(TimeoutError):
                run_with_timeout(flush, COLLECTED_WITHIN)

    return measured
