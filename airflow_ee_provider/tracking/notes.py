"""Notes that a task or its trigger leaves in XComs, for the collector and for other triggerers."""

from __future__ import annotations

from typing import Any

from airflow_ee_provider.base.stored_values import set_xcom, xcom
from airflow_ee_provider.tracking.record import map_index_of

#: The XCom's key under which a try records that it has ended and that none of its operations needs a cancel.
SETTLED_KEY = "_earth_engine_settled"

#: The XCom's key under which a trigger records that it resumes its task although operations still run.
RESUMED_KEY = "_earth_engine_resumed"


def note_settled(ti: Any) -> None:
    """Record that no operation of this try, or of an earlier one, still needs a cancel.

    All have ended, or their cancels are confirmed, or they are meant to keep running. Call it as late as Airflow
    accepts an XCom of the try, in its process or in its trigger; not if a next try may continue with an operation.

    :raises Exception: If Airflow cannot store it; the collector then asks Earth Engine.
    """
    set_xcom(SETTLED_KEY, {"try_number": ti.try_number}, ti)


def note_resumed(ti: Any, trigger_id: Any) -> None:
    """Record that a trigger resumes its task. From then on, the task's process owns the operations.

    :raises Exception: If Airflow cannot store it.
    """
    set_xcom(RESUMED_KEY, trigger_id, ti)


def was_resumed(ti: Any, trigger_id: Any) -> bool:
    """Whether a trigger has resumed its task, in this triggerer or in another one that has taken it over.

    :raises Exception: If Airflow does not answer.
    """
    return (
        trigger_id is not None and xcom(RESUMED_KEY, ti.dag_id, ti.run_id, ti.task_id, map_index_of(ti)) == trigger_id
    )


def settled_try(value: Any) -> int | None:
    """Return the number of the try that `note_settled` has recorded; None for another value."""
    number = value.get("try_number") if isinstance(value, dict) else None
    return number if isinstance(number, int) else None
