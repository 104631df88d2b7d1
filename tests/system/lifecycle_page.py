"""What ``make matrix`` writes: ``docs/lifecycle.md``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from changed_file import CHANGES
from events import COLLECTED_WITHIN, EVENTS
from expectations import CANCEL_WITHIN, LOST_WORKER_WITHIN
from matrix_cells import HOLDERS
from vocabulary import SENTENCES

if TYPE_CHECKING:
    from collections.abc import Iterator

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

#: In a cell of an Airflow that does not know what happens.
NEW = "not in this version"

SUMMARY = """# What happens to an operation, however a run ends

*Owned*: `@task.earth_engine` and the export operator by default, and a sensor with `cancel_on_kill` and
`cancel_on_timeout`; poking, or deferred. *Asleep*: a sensor with `mode="reschedule"`. *Recorded*: an operation that
your own code has started, recorded with `record_operations`, and not waited for.

| What happens | owned | asleep | recorded |
|---|---|---|---|
| the task is cleared | cancelled | the next try continues | the next try, with `resume_operations` |
| the task is marked failed or success | cancelled | the collector | the collector, if marked failed |
| the same between two tries | the collector | - | the collector, if marked failed |
| the run is marked failed, or deleted after that | cancelled | the collector | the collector |
| the run times out (`dagrun_timeout`) | cancelled | the collector | the collector, or the DAG's notifier |
| the task's time is over (`execution_timeout`, the sensor's `timeout`) | cancelled | cancelled | - |
| the task fails for good, or is skipped | cancelled (`cancel_on_failure`) | the same | the collector, or a notifier |
| a deadline is missed (Airflow 3.1 and later) | the deadline's notifier | the same | the same |
| the worker gets SIGTERM (evicted, a new release) | the next try continues; without `retries`, cancelled | - | - |
| the worker gets SIGKILL | the next try continues; without one, the collector | - | the same |
| the triggerer or the scheduler stops, is killed, comes back | runs on; its end is noticed | runs on | - |
| the DAG's file changes | [see below](#airflow-332) | the same | the same |

[The collector](production.md) is part of this provider: it runs in the triggerer's process, looks at Airflow's database
every 15 seconds, and cancels what no task needs any more, with nothing in the DAG. A notifier with `scope="run"` is
faster where a task has failed. A teardown, `EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()`,
runs even if a person marks the run failed, **but not at `dagrun_timeout`: Airflow skips it with the other tasks**.
"""

INTRODUCTION = f"""
## The evidence

Written by `make matrix` from real runs against the emulator, whose journal and states are
what is asserted; never edited by hand. The DAGs are [these](../tests/system/dags/lifecycle.py).

- **Columns** say who holds the operation: the cancel operator while it waits for the confirmation, in a worker and
  deferred; the sensor with `cancel_on_kill` and `cancel_on_timeout`, in its three modes; `@task.earth_engine`, and with
  it the export operator, in a worker and deferred; the latter in a DAG that ends with a teardown,
  `EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()`; a plain task with one retry that starts the
  operation, records it (`record_operations`) and waits, and whose next try asks `resume_operations`; and a task that
  has started an operation, recorded it and succeeded, while the next task of the run works.
- **Nobody helps the holder**: no DAG and no task has a callback, except in the rows that say so.
- **Bystanders**: beside each holder, another task of the same run has recorded an operation that it watches, and a task
  of another run of the same DAG one of its own. Both run on, or the cell is broken. (In the rows with a DAG's notifier,
  which is the run's, only the other run's.)
- **Who answers for it** is read from the logs of everything that Airflow ran: a cell in which the operation was
  cancelled, but not by who the row names, is broken.
- **Cells** give the seconds from what happened to the cancel request; Earth Engine's confirmation came after it in
  each (the emulator takes 2 s). *confirmed* is for what had been asked to cancel before: the seconds to the
  confirmation (the emulator takes 20 s there). *resumed*: left running, as promised, and its end was noticed.
  *orphaned*: it ran on until `EarthEngineCancelStaleOperationsOperator` found it with `orphaned=True`, which was tried.
  *janitor*: the same by its description, since no task has said that it is its own.
  A dash: such a thing cannot happen to such a holder.
- **Promised** is the confirmation within {CANCEL_WITHIN:g} s; within {LOST_WORKER_WITHIN:g} s for a worker that
  was lost, with a heartbeat timeout of 40 s (Airflow's default is 300 s), and within {COLLECTED_WITHIN:g} s where only
  the collector can answer (90 s on an idle system; the cells share two cores). A cell in **bold** is not as promised,
  and says what was seen instead.
- *As in production*: PostgreSQL, Redis, Celery with two workers, two triggerers, an API server for the tasks alone.
  *Two clocks wrong by an hour*: one worker's is behind, and one triggerer's ahead.
"""

LIMITS = """
## Where nothing is cancelled

- A sensor that fails because one of several operations has: it leaves the others alone, unless `cancel_on_failure` is
  set, or the task, or the DAG, has a notifier. The collector does as the task's own `cancel_on_*` parameters say.
- What was started with `wait_for_completion=False`, as long as its run has not failed.
- What your own code has recorded with `record_operations`, as long as neither its task nor its run has failed.
- Where the collector is switched off or cannot work ([production](production.md)): a rescheduled sensor that sleeps, a
  task between two tries, a worker that is lost without `retries`. Then use a notifier, a teardown, or
  `EarthEngineCancelStaleOperationsOperator(orphaned=True)` on a schedule.

## How a process decides

A process that is told to end asks Airflow, within three seconds, for its task's state. Airflow records a user's action
before it tells the process. So a task that is *still running* is needed, and if it has tries left, its operations are
left to the next try: its pod is evicted, a new release is rolled out (Celery's cold shutdown), or Airflow has lost
sight of it, since its heartbeats did not come through, or its scheduler was away for longer than 30 s. Where Airflow
does not answer at all, the same applies. Where the next try has begun, nothing of what it has recorded is cancelled: a
worker whose machine stood still for minutes wakes up, and neither cancels nor overwrites anything of the next try's. A
process that lives on after SIGTERM decides again when it is told again, and at its end.

Without tries left, what a task owns is cancelled. A signal that arrives while the task asks Airflow something, or while
it writes a log line, is sent again a moment later.

What an error does is decided at the end of the process, once Airflow has decided whether another try follows: by
`retries`, by a retry policy, by the class of the exception. The exception itself leaves the task unchanged.

If Earth Engine does not answer while a process is killed, a second process continues to cancel for five minutes, also
what was just being started: the same request names it. It is not started where a next try follows.

A task that fails asks for its state as well: Airflow refuses what a cleared task records. A function's own handler of
SIGTERM is put back once the function has returned, and the task's state is asked for then.

## What cannot be told apart

A task that is cleared *while it runs* can look to its next try like one that is tried again after a crash: Airflow
raises its `max_tries` at some clears and not at others, one run like the next. So `resume_operations` does as
`on_clear` or as `on_retry` says: by default it cancels and starts anew, or reattaches; either way nothing is lost. A
sensor or an operator with `cancel_on_kill` cancels before that, since it is told of the kill.

## What Airflow says, and what a trigger asks

From 3.3 on, Airflow tells a trigger that a user has acted (`on_kill`); it says so, too, where another triggerer has
taken the trigger over from one that was late. Before 3.3, a trigger is told nothing and only cancelled. So on every
version it asks for its task's state and try: if the task still waits, everything runs on. Where Airflow does not
answer, its word is taken on 3.3, and everything is left alone before.

`DeadlineAlert` is new in Airflow 3.1.
"""


MOMENTS = """
## At any moment of a start

Written by `make matrix`: tasks that are ended at random moments of their first nine seconds, while their function
works, while it starts its operations, while they are deferred and their trigger has not begun, and after that. Their
DAGs have no callback and no teardown. They are `@task.earth_engine`, deferred and in a worker; one whose function
starts five exports by itself; and a deferred sensor. *Left running* counts operations that ran on. (A sensor counts
once it has recorded what it holds; a mark that Airflow itself has lost, on SQLite, is made again, as a person would.)

| Airflow | what happens | moments | left running |
|---|---|---|---|
"""

HANDOVER = """
A trigger that has begun writes so into an XCom, and until then the task's process stays: at most 15 s, where no
triggerer runs. On Airflow 3.3, a deferral that is refused, because a person has ended the task in the seconds before,
is seen there as well. Before 3.3, Airflow ends the process then; so the task asks for its own state in the last moment
before it defers, and some hundredths of a second are left. In its first ten seconds, a trigger resumes no task: Airflow
takes one for lost that it resumes before its scheduler has heard of the deferral.
"""


def moments(results: list[dict[str, Any]]) -> str:
    """Return what was measured at any moment of a start."""
    rows = [
        f"| {result['version']} | {SENTENCES[event]} | {seen['moments']} | {seen['left running']} |"
        for result in results
        for event, seen in result["events"].items()
    ]
    return MOMENTS + "\n".join(rows) + "\n" + HANDOVER


def page(results: list[dict[str, Any]], at_moments: list[dict[str, Any]], before: str) -> tuple[str, list[str]]:
    """Return the page, and a line for each cell that is not as promised.

    :param before: the page as it was: what has not been measured again stays.
    """
    broken = [line for result in at_moments for line in (*result["left"], *result["wrongly"])]
    known, _, known_moments = before.partition(MOMENTS)
    [_, *known_sections] = re.split(r"^(?=## Airflow )", known, flags=re.MULTILINE)
    sections = {section.splitlines()[0]: section.strip() for section in known_sections}
    for result in results:
        heading = f"## Airflow {result['version']}"
        lines = _tables(result["version"], result["cells"], sections.get(heading, ""), broken)
        sections[heading] = "\n".join([heading, *lines])
    text = "\n\n".join([(SUMMARY + LIMITS + INTRODUCTION).rstrip(), *sections.values()]) + "\n"
    return text + (moments(at_moments) if at_moments else MOMENTS + known_moments), broken


def _tables(version: str, cells: dict[str, Any], section: str, broken: list[str]) -> Iterator[str]:
    """Yield the lines of what was measured on a version.

    :param section: what the page says of it already, which stays where nothing new was measured.
    """
    table, _, below = section.partition("\n\n")[2].partition("\n\n")
    texts = _texts(table) | {name: _text(cell) for name, cell in cells.items()}
    holders = [holder for holder in HOLDERS if any(name.startswith(f"{holder}__") for name in texts)]
    headings = " | ".join(HEADINGS[holder] for holder in holders)
    yield f"\n| what happens | {headings} | who answers for it |"
    yield f"|{'---|' * (len(holders) + 2)}"
    for event_id, event in EVENTS.items():
        if event.production and "production" not in version:
            continue
        if "," in version and not any(f"{holder}__{event_id}" in texts for holder in holders):
            continue  # With XComs in an object store, or in production, a part of them is measured.
        row = [_cell(texts, holder, event_id, version, broken) for holder in holders]
        yield f"| {SENTENCES[event_id]} | {' | '.join(row)} | {event.who} |"
    mapped = cells.get("mapped__run_marked_failed")
    if mapped is None:
        if below:
            yield "\n" + below.strip()
        return
    if not mapped["kept"]:
        broken.append(f"{version}: mapped: {mapped['observed']}")
    yield from _changes(cells, version, broken)
    yield f"\nOf 20 in a mapped task group, deferred, the run marked failed: the last after {mapped['observed']}."


def _texts(table: str) -> dict[str, str]:
    """Return what a table says of its cells, by their names."""
    if not table:
        return {}
    holders = {heading: holder for holder, heading in HEADINGS.items()}
    events = {SENTENCES[event_id]: event_id for event_id in EVENTS}
    [[_, *headings, _], _, *rows] = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {
        f"{holders[heading]}__{events[what]}": text
        for what, *row, _ in rows
        if what in events
        for heading, text in zip(headings, row, strict=True)
        if text not in ("-", NEW)
    }


def _changes(cells: dict[str, Any], version: str, broken: list[str]) -> list[str]:
    """Return the table of what became of operations whose DAG's file changed meanwhile."""
    lines = ["\n| the file changed meanwhile | what became of it |", "|---|---|"]
    for name in CHANGES:
        cell = cells.get(f"changed__{name}", {"kept": False, "observed": "not measured"})
        if not cell["kept"]:
            broken.append(f"{version}: {name}: {cell['observed']}")
        lines.append(f"| {name} | {_text(cell)} |")
    return lines


def _text(cell: dict[str, Any]) -> str:
    if cell["kept"]:
        # A deadline's own time is known a moment less exactly than the request's.
        return re.sub(r"^-0\.\d", "0.0", str(cell["observed"]))
    return f"**{cell['observed']}**"


def _cell(texts: dict[str, str], holder: str, event: str, version: str, broken: list[str]) -> str:
    if holder not in EVENTS[event].holders:
        return "-"
    if not EVENTS[event].is_known_to(version):
        return NEW
    text = texts.get(f"{holder}__{event}", "**not measured**")
    if text.startswith("**"):
        broken.append(f"{version}: {holder} {event}: {text.strip('*')}")
    return text
