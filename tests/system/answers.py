"""Checks in Airflow's logs which component has cancelled an operation."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from events import CANCEL, CANCELLED, COLLECTOR, EVENTS, OR_COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from matrix_cells import Cell

_KILLED = r"(killed|has not begun|its run has ended|hold (ended as|was set to) [ \w]+); cancelling"
_OF_RUN = "Cancelling the Earth Engine operations of the run"

_COLLECTED = r"no task needs its operations\. Cancelling"

#: By the component that is to cancel: the log that shows the cancel, and its text; of several components, any one.
TOLD = {
    "`cancel_on_kill`": ("task_id=hold", _KILLED),
    OR_COLLECTOR: ("", f"{_KILLED}|{_COLLECTED}"),
    COLLECTOR: ("", _COLLECTED),
    "the collector, or the trigger, which checks once a minute": ("", f"{_KILLED}|{_COLLECTED}"),
    "`cancel_on_kill`; a rescheduled sensor's next try": ("task_id=hold", _KILLED),
    "nothing while it is paused; then `cancel_on_kill`, at `dagrun_timeout`": ("task_id=hold", _KILLED),
    "`cancel_on_timeout`": ("task_id=hold", r"timed out \(.*cancelling"),
    "`cancel_on_timeout`, in `resume_execution`": ("task_id=hold", r"timed out \(.*cancelling"),
    "`cancel_on_failure`": ("task_id=hold", r"hold ended as (failed|skipped); cancelling"),
    "the task's notifier": ("", "Cancelling the Earth Engine operations of the task"),
    "the DAG's notifier": ("", _OF_RUN),
    "the DAG's notifier; of a sensor that just polls, `cancel_on_kill`": ("", f"{_OF_RUN}|{_KILLED}"),
    "the DAG's notifier, after the heartbeat timeout": ("", _OF_RUN),
    "the deadline's notifier": ("", _OF_RUN),
    "the teardown; without one, the collector": ("", f"cancel requested|{_COLLECTED}"),
    "the next try: continues, or cancels; before 3.3, the collector": ("", f"cancel requested|{_COLLECTED}"),
}

#: The same for operations that are left running, by event.
TOLD_BY = dict.fromkeys(
    ("worker_lost_sight_of", "worker_stood_still", "worker_evicted"),
    ("attempt=1", "The next try of hold continues with"),
)

_NAME = re.compile(r"projects/[\w-]+/operations/\w+")


def check_who_answered(cells: Iterable[Cell], home: Path) -> None:
    """Mark a cell as broken if its operation was cancelled as promised, but by another component than promised.

    The cells of the cancel operator are not checked: it had requested the cancel before the event.
    """
    asked = [
        cell
        for cell in cells
        if cell.kept
        and cell.holder not in CANCEL
        and (cell.event in TOLD_BY or EVENTS[cell.event].promise(cell.holder) == CANCELLED)
    ]
    told = _told({cell.name for cell in asked}, {cell.run_id for cell in asked}, home)
    for cell in asked:
        where, what = TOLD_BY.get(cell.event) or TOLD[EVENTS[cell.event].who]
        lines = told[cell.name] + told[cell.run_id]
        if not any(where in path and re.search(what, line) for path, line in lines):
            cell.kept, cell.observed = False, f"{cell.observed}, not by {EVENTS[cell.event].who}"


def _told(names: set[str], run_ids: set[str], home: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the lines of all logs that name an operation, and those of a run's own logs, each with its file."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, line in _lines(home):
        about = set(_NAME.findall(line)) & names
        about |= {run_id for run_id in run_ids if run_id in path}
        for key in about:
            found[key].append((path, line))
    return found


def _lines(home: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(home.rglob("*.log*")):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as log:
                for line in log:
                    yield str(path), line
