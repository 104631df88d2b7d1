"""What ``make matrix`` writes: ``docs/results/lifecycle.md``."""

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
    "cancel_running": "cancel operator, in a worker",
    "cancel_deferred": "cancel operator, deferred",
    "sensor_running": "sensor, poking",
    "sensor_rescheduled": "sensor, rescheduled",
    "sensor_deferred": "sensor, deferred",
    "export_running": "export, in a worker",
    "export_deferred": "export, deferred",
    "torn_down": "export, deferred, with a teardown",
    "starting": "plain task that waits",
    "started": "plain task that has ended",
}

#: The text of a cell if this version of Airflow does not have the event.
NEW = "not in this version"

TITLE = "# Lifecycle: measured on each Airflow version\n"

INTRODUCTION = f"""{TITLE}
`make matrix` writes this page from real Airflow runs against the emulator. [When operations are
cancelled](../lifecycle.md) is the summary. The DAGs are in
[tests/system/dags/lifecycle.py](../../tests/system/dags/lifecycle.py).

- **A column** is the task that an operation belongs to: the cancel operator while it waits for the confirmation; the
  sensor with `cancel_on_kill` and `cancel_on_timeout`, in its three modes; `@task.earth_engine`, which the export
  operator shares its code with; the same in a DAG that ends with
  `EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()`; a plain task with one retry that starts the
  operation, records it with `record_operations`, waits, and calls `resume_operations` in its next try; and a plain task
  that has started and recorded an operation and succeeded, while the next task of the run works.
- **No DAG and no task has a callback**, except in the rows that name one.
- **Two other operations** run beside each cell: another task of the same run watches one, and a task of another run of
  the same DAG owns one. Both must keep running, or the cell fails. (In the rows with a DAG's notifier, which cancels
  for the whole run, only the other run's operation must.)
- **Cancelled by**: read from Airflow's logs. The cell fails if the operation was cancelled by anything else.
- **A cell** is the number of seconds from the event to the cancel request. Earth Engine's confirmation followed in each
  cell (the emulator takes 2 s). *confirmed*: the cancel was requested before the event; the number is the seconds from
  the event to the confirmation (the emulator takes 20 s there). *resumed*: the operation kept running, as promised,
  and the task received its result. A dash: the event does not apply to the task.
- **Promised** is a confirmation within {CANCEL_WITHIN:g} s; within {LOST_WORKER_WITHIN:g} s if a worker is lost, with a
  heartbeat timeout of 40 s (Airflow's default is 300 s); and within {COLLECTED_WITHIN:g} s if only the collector can
  cancel (90 s on an idle machine; here, the cells share two cores). A cell in **bold** broke the promise and shows what
  was seen instead.
- *As in production*: PostgreSQL, Redis, Celery with two workers, two triggerers, and a separate API server for the
  tasks. *Two clocks wrong by an hour*: one worker's clock is late, one triggerer's is early.
"""

#: Only if the page has cells of an earlier measurement.
EARLIER = """- *orphaned*, *stale*: cells that were measured before the provider had the collector. The operation kept
  running until `EarthEngineCancelStaleOperationsOperator` cancelled it: with `orphaned=True`, or by its description.
"""


#: The beginning of the last line of a version's section.
MEASURED = "\n\nMeasured last: "

MOMENTS = """
## At any moment of a start

`make matrix` also ends tasks at random moments of their first nine seconds: while the function works, while it starts
operations, while the task is deferred and its trigger has not started, and after that. The DAGs have no callback and no
teardown. The tasks are `@task.earth_engine`, deferred and in a worker; one whose function starts five exports itself;
and a deferred sensor. *Still running* counts operations that were not cancelled. A sensor counts once it has recorded
its operations. If Airflow loses a mark (SQLite), the test marks the task again, as a person would.

| Airflow | Event | Moments | Still running | Measured |
|---|---|---|---|---|
"""


def moments(results: list[dict[str, Any]], known: str) -> str:
    """Return the section about random moments of a start.

    :param known: the page's present rows; those of other versions stay.
    """
    again = tuple(f"| {result['version']} |" for result in results)
    rows = [row for row in known.splitlines() if not row.startswith(again)]
    for result in results:
        for event, seen in result["events"].items():
            cells = (result["version"], SENTENCES[event], seen["moments"], seen["left running"], result["measured"])
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return MOMENTS + "\n".join(sorted(rows, key=lambda row: row.split(" | ")[0], reverse=True)) + "\n"


def page(results: list[dict[str, Any]], at_moments: list[dict[str, Any]], before: str) -> tuple[str, list[str]]:
    """Return the page, and a line for each cell that is not as promised.

    :param before: the present page; results that were not measured again stay.
    :raises ValueError: if it is another page.
    """
    if before and not before.startswith(TITLE):
        raise ValueError("This is not the page that `make matrix` writes: docs/results/lifecycle.md.")
    broken = [line for result in at_moments for line in (*result["left"], *result["wrongly"])]
    known, _, known_moments = before.partition(MOMENTS)
    [_, *known_sections] = re.split(r"^(?=## Airflow )", known, flags=re.MULTILINE)
    sections = {section.splitlines()[0]: section.strip() for section in known_sections}
    for result in results:
        heading = f"## Airflow {result['version']}"
        known, *last = sections.get(heading, "").partition(MEASURED)
        lines = _tables(result["version"], result["cells"], known, broken)
        measured = f"{MEASURED}{result['measured']}." if "measured" in result else "".join(last)
        sections[heading] = "\n".join([heading, *lines]) + measured
    earlier = EARLIER if re.search(r"\| (orphaned|stale) ", "".join(sections.values())) else ""
    text = "\n\n".join([(INTRODUCTION + earlier).rstrip(), *sections.values()]) + "\n"
    return text + moments(at_moments, known_moments), broken


def _tables(version: str, cells: dict[str, Any], section: str, broken: list[str]) -> Iterator[str]:
    """Yield the lines of a version's section.

    :param section: the present section; cells that were not measured again stay.
    """
    table, _, below = section.partition("\n\n")[2].partition("\n\n")
    texts = _texts(table) | {name: _text(cell) for name, cell in cells.items()}
    holders = [holder for holder in HOLDERS if any(name.startswith(f"{holder}__") for name in texts)]
    headings = " | ".join(HEADINGS[holder] for holder in holders)
    yield f"\n| Event | {headings} | Cancelled by |"
    yield f"|{'---|' * (len(holders) + 2)}"
    for event_id, event in EVENTS.items():
        if event.production and "production" not in version:
            continue
        if "," in version and not any(f"{holder}__{event_id}" in texts for holder in holders):
            continue  # With XComs in an object store, or in production, only some events are measured.
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
    yield f"\nOf 20 deferred tasks of a mapped group, the run marked failed: the last after {mapped['observed']}."


def _texts(table: str) -> dict[str, str]:
    """Return the texts of a table's cells, by the cells' names."""
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
    """Return the table of the results for operations whose DAG file changed during the run."""
    lines = ["\n| Change of the DAG file during the run | Result |", "|---|---|"]
    for name in CHANGES:
        cell = cells.get(f"changed__{name}", {"kept": False, "observed": "not measured"})
        if not cell["kept"]:
            broken.append(f"{version}: {name}: {cell['observed']}")
        lines.append(f"| {name} | {_text(cell)} |")
    return lines


def _text(cell: dict[str, Any]) -> str:
    if cell["observed"] == "janitor":  # In earlier measurements.
        return "stale"
    if cell["kept"]:
        # The time of a deadline is known less exactly than the time of a request.
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
