"""Records that a try has ended and that none of its operations needs a cancel, for the collector."""

from __future__ import annotations

from typing import Any

from airflow_ee_provider.base.stored_values import set_xcom
from airflow_ee_provider.tracking.record import SETTLED_KEY


def note_settled(ti: Any) -> None:
    """Record that no operation of this try, or of an earlier one, still needs a cancel.

    All have ended, or their cancels are confirmed, or they are meant to keep running. Call it as late as Airflow
    accepts an XCom of the try, in its process or in its trigger; not if a next try may continue with an operation.

    :raises Exception: If Airflow cannot store it; the collector then asks Earth Engine.
    """
    set_xcom(SETTLED_KEY, {"try_number": ti.try_number}, ti)


def settled_try(value: Any) -> int | None:
    """Return the number of the try that `note_settled` has recorded; None for another value."""
    number = value.get("try_number") if isinstance(value, dict) else None
    return number if isinstance(number, int) else None
