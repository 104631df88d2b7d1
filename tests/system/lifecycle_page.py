"""What ``make matrix`` writes: ``docs/lifecycle.md``."""

from __future__ import annotations

import re
from typing import Any

from cells import HOLDERS
from events import EVENTS
from promises import CANCEL_WITHIN, LOST_WORKER_WITHIN

HEADINGS = {
    "cancel_running": "cancel operator, worker",
    "cancel_deferred": "cancel operator, deferred",
    "sensor_running": "sensor, poking",
    "sensor_rescheduled": "sensor, reschedule",
    "sensor_deferred": "sensor, deferred",
    "export_running": "export, worker",
    "export_deferred": "export, deferred",
    "torn_down": "and a teardown",
    "starting": "starts it and waits",
    "started": "started and left",
}

INTRODUCTION = f"""# What becomes of an operation, however a run ends

Written by `make matrix` from real runs on three Airflow versions against the emulator, whose journal and states are
what is asserted; never edited by hand. The DAGs are [these](../tests/system/dags/lifecycle.py).

- **Columns** say who holds the operation: the cancel operator while it waits for the confirmation, in a worker and
  deferred; the sensor with `cancel_on_kill` and `cancel_on_timeout`, in its three modes; `@task.earth_engine`, and with
  it the export operator, in a worker and deferred; the latter in a DAG that ends with a teardown,
  `EarthEngineCancelOperationOperator(task_id="clean_up").as_teardown()`; a plain task with one retry that starts the
  operation, records it (`record_operations`) and waits, and whose next try asks `resume_operations`; and a task that
  has started an operation, recorded it and succeeded, while the next task of the run works.
- **Nobody helps the holder**: no DAG and no task has a callback, except in the rows that say so.
- **Bystanders**: in each cell another task of the same run has recorded an operation of its own and waits, and a third
  operation belongs to nobody that the run knows of. Both run on, or the cell is broken.
- **Cells** give the seconds from what happened to the cancel request; Earth Engine's confirmation came after it in
  each (the emulator takes 2 s). *confirmed* is for what had been asked to cancel before: the seconds to the
  confirmation (the emulator takes 20 s there). *resumed*: left running, as promised, and its end was noticed.
  *janitor*: Airflow runs none of our code, so it ran on until `EarthEngineCancelStaleOperationsOperator` found it by
  its description, which was tried. A dash: such a thing cannot happen to such a holder.
- **Promised** is the confirmation within {CANCEL_WITHIN:g} s; within {LOST_WORKER_WITHIN:g} s for a worker that
  was lost, with a heartbeat timeout of 40 s (Airflow's default is 300 s). A cell in **bold** is not as promised, and
  says what was seen instead.
"""

LIMITS = """
## Where only the janitor is left

- A *run* that is marked failed by hand: Airflow calls no callback of the DAG's, and only tasks that run, or whose
  trigger does, are told. An operation that is held by neither runs on. A teardown closes these cells, since Airflow
  runs it even then; it cancels what all tasks of the run have recorded.
- Before Airflow 3.3, the next try of a task that has started an operation and was not told of its clear: Airflow
  deletes the XComs as it begins, and has no `task_state_store`, so nothing remembers the operation of the last try.

## Before the triggerer has taken a task over

A task is deferred for a moment, a second or so, before its trigger runs; for longer where no triggerer does. Nobody can
be told of a kill then. A sensor that is cleared goes on waiting with its next try; the next try of an export cancels
what the last one has started, but before Airflow 3.3 leaves it to the janitor. A task that is marked is left to the
DAG's notifier, and a run that is marked failed to the teardown, or to the janitor where there is none.

## What cannot be told apart

A task that is cleared *while it runs* can look to its next try like one that is tried again after a crash: Airflow
raises its `max_tries` at some clears and not at others, one run like the next. So `resume_operations` does as
`on_clear` or as `on_retry` says: by default it cancels and starts anew, or reattaches; either way nothing is lost. A
sensor or an operator with `cancel_on_kill` cancels before that, since it is told of the kill.

## What differs before Airflow 3.3

- A trigger is not told that a user acted. It asks for its task's state and try instead, after the triggerer has
  cancelled it.
- `DeadlineAlert` is new in Airflow 3.1.
"""


def page(results: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the page, and a line for each cell that is not as promised."""
    broken: list[str] = []
    parts = [INTRODUCTION]
    for result in results:
        version, cells = result["version"], result["cells"]
        parts.append(
            f"\n## Airflow {version}\n\n| what happens | {' | '.join(HEADINGS.values())} | who answers for it |"
        )
        parts.append(f"|{'---|' * (len(HEADINGS) + 2)}")
        for event_id, event in EVENTS.items():
            row = [_cell(cells, holder, event_id, version, broken) for holder in HOLDERS]
            parts.append(f"| {event.text} | {' | '.join(row)} | {event.who} |")
        mapped = cells.get("mapped__run_marked_failed", {"observed": "not measured", "kept": False})
        if not mapped["kept"]:
            broken.append(f"{version}: mapped: {mapped['observed']}")
        parts.append(
            f"\nOf 20 in a mapped task group, deferred, the run marked failed: the last after {mapped['observed']}."
        )
    return "\n".join(parts) + "\n" + LIMITS, broken


def _cell(cells: dict[str, Any], holder: str, event: str, version: str, broken: list[str]) -> str:
    if holder not in EVENTS[event].holders:
        return "-"
    cell = cells.get(f"{holder}__{event}")
    if cell is None:
        if not EVENTS[event].is_known_to(version):
            return "not in this version"
        broken.append(f"{version}: {holder} {event}: not measured")
        return "**not measured**"
    if cell["kept"]:
        # A deadline's own time is known a moment less exactly than the request's.
        return re.sub(r"^-0\.\d", "0.0", str(cell["observed"]))
    broken.append(f"{version}: {holder} {event}: {cell['observed']}")
    return f"**{cell['observed']}**"
