"""One measurement of `size`, in a process of its own, so that only its own memory counts; prints a line of JSON.

It uses only functions that the earlier commit has as well: `PYTHONPATH` selects the code to measure.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import timedelta
from typing import Any

import psutil
from seeding import Size, name_of

REPEATED = 3


def reading(*, oldest: bool) -> dict[str, Any]:
    """Query the database for the tasks that the active operations belong to.

    :param oldest: whether one of the operations is ten days old.
    """
    from airflow import settings
    from sqlalchemy import event

    from airflow_ee_provider.tracking.database import read_holdings
    from airflow_ee_provider.tracking.holders import with_holders

    operations = active_operations(Size(oldest=oldest))
    took = Statements()
    event.listen(settings.engine, "before_cursor_execute", took.begin)
    event.listen(settings.engine, "after_cursor_execute", took.end)
    before, found = memory(), []
    for number in range(REPEATED + 1):
        if number == 1:  # The first query connects, and fills the database's cache.
            took.seconds, took.count, used, of_database = [], 0, time.process_time(), database_cpu()
        found = with_holders(operations, read_holdings)
        took.seconds.append(took.last)
        took.last = 0.0
    if not all(one.holders for one in found):
        raise AssertionError("Some have no task.")
    return {
        "seconds": min(took.seconds),
        "statements": took.count / REPEATED,
        "database_cpu": (database_cpu() - of_database) / REPEATED,
        "cpu": (time.process_time() - used) / REPEATED,
        "memory": memory() - before,
    }


def active_operations(size: Size) -> list[Any]:
    """Return the active operations of a database of that size."""
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState

    return [
        Operation(
            OperationName.parse(name_of(run, task)),
            OperationState.RUNNING,
            done=False,
            create_time=size.created(run) + timedelta(seconds=60),
        )
        for run, task in size.records()
        if size.is_active(run, task)
    ]


class Statements:
    """How long the statements of a reading take, until their first row."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last, self.count, self._begun = 0.0, 0, 0.0

    def begin(self, *_: Any) -> None:
        """Start the timer."""
        self._begun = time.perf_counter()

    def end(self, *_: Any) -> None:
        """Add the elapsed time."""
        self.last += time.perf_counter() - self._begun
        self.count += 1


def memory() -> float:
    """Return the peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def database_cpu() -> float:
    """Return the processor time of PostgreSQL's processes, in seconds; no other process's time includes it."""
    total = 0.0
    for process in psutil.process_iter(["name", "cpu_times"]):
        if process.info["name"] == "postgres" and process.info["cpu_times"]:
            times = process.info["cpu_times"]
            total += times.user + times.system
    return total


if __name__ == "__main__":
    print(json.dumps(reading(oldest="oldest" in sys.argv)))
