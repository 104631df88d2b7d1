"""That a try has ended and left nothing to cancel: the collector then asks Earth Engine nothing about it."""

from __future__ import annotations

from typing import Any

from airflow_ee_provider.base.stored_values import set_xcom
from airflow_ee_provider.tracking.record import SETTLED_KEY


def note_settled(ti: Any) -> None:
    """Write down that nothing of this try, or of an earlier one, still needs a cancel.

    All of it has ended, or was cancelled and that is confirmed, or is meant to run on. Call it as late as Airflow still
    takes an XCom of the try, in its process or in its trigger; not where a next try may go on with something.

    :raises Exception: whatever keeps Airflow from writing it down: the collector then asks Earth Engine, no more.
    """
    set_xcom(SETTLED_KEY, {"try_number": ti.try_number}, ti)


def settled_try(value: Any) -> int | None:
    """Return the number of the try that `note_settled` has written down; None if it is no such number."""
    number = value.get("try_number") if isinstance(value, dict) else None
    return number if isinstance(number, int) else None
