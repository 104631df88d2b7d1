"""What a task measures of its operations; which metrics there are says `earth_engine.metrics`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.metrics import flush, measure
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.model.results import OperationDict


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
    """Count what became of operations that were to be cancelled, by why.

    :param cause: one of `CAUSES`.
    """
    for outcome in outcomes:
        measure("cancels", cause=cause, outcome=CancelOutcome(outcome).value.lower(), dag_id=dag_id)
    flush()
