"""Extracts a task's trace (its observed events, in order), which `tests/model/traces.py` compares with the model."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import EVENTS, RESUMED

from dev.airflow_api import seconds_since_epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matrix_cells import Cell
    from soak_runs import Run

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.operations import EmulatedOperation
    from dev.standalone import StandaloneAirflow

#: The folder from which the model reads traces.
TRACES = Path(__file__).parents[1] / "model" / "traces"

#: The mark of the event that happened to the task; and the states in which a task can end.
STRUCK, ENDS = "~~~", ("success", "failed", "skipped")

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)")


#: Seconds after its event for which a soak task is traced: its run continues, and ends for another reason.
FOLLOWED = 60.0


def trace_of_cell(cell: Cell, airflow: StandaloneAirflow, emulator: Emulator, version: str) -> dict[str, Any]:
    """Return the trace of a cell's task until it is judged, in seconds since its first observed event."""
    names = cell.started(emulator) if cell.starts_it_itself else cell.operations
    operations = [emulator.service.operations[name] for name in names]
    seen = [(cell.stood_still or cell.happened, STRUCK), *_of_operations(operations, are_started=cell.starts_it_itself)]
    promise = EVENTS[cell.event].promise(cell.holder)
    seen += _in_logs(cell.dag_id, cell.run_id, airflow)
    seen = _since_the_begin([one for one in seen if one[0] <= cell.judged])
    with suppress(RuntimeError):  # The run is deleted.
        task = airflow.task(cell.dag_id, cell.run_id, "hold")
        has_ended = task["state"] in ENDS and task["end_date"]
        is_in_time = has_ended and seconds_since_epoch(task["end_date"]) <= cell.judged
        if is_in_time and promise != RESUMED:  # In a resumed cell, `judge` ends the operation.
            seen.append((1e6, f"ended: {task['state']}"))
    return {"version": version, "holder": cell.holder, "event": cell.event, "seen": seen}


def trace_of_run(run: Run, airflow: StandaloneAirflow, emulator: Emulator, version: str) -> dict[str, Any]:
    """Return the trace of a soak task to which only its planned event happened."""
    own = run.exports_of_the_holder(emulator.service)
    seen = [*_of_operations(own, are_started=run.shape != "sensor"), *_in_logs(run.dag_id, run.run_id, airflow)]
    if run.acted:
        seen = [(run.happened, STRUCK), *(one for one in seen if one[0] < run.happened + FOLLOWED)]
    return {"version": version, "holder": run.dag_id, "event": run.event, "seen": _since_the_begin(seen)}


def _since_the_begin(seen: list[tuple[float, str]]) -> list[tuple[float, str]]:
    began = min(moment for moment, _ in seen)
    return [(round(moment - began, 2), what) for moment, what in sorted(seen)]


def in_order(seen: Iterable[tuple[float, str]], leave_out: set[str] | frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return the observed events in order; consecutive equal ones count once."""
    words = [what for _, what in sorted(seen, key=lambda one: one[0]) if what not in leave_out]
    return tuple(word for word, _ in groupby(words))


def _of_operations(operations: list[EmulatedOperation], *, are_started: bool) -> Iterator[tuple[float, str]]:
    """Yield the exports and the cancels that Earth Engine has received.

    :param are_started: whether the task itself starts the operations.
    """
    for operation in operations:
        if are_started:
            yield operation.created, "export"
        if operation.cancel_requested is not None:
            yield operation.cancel_requested, "cancel"


def _in_logs(dag_id: str, run_id: str, airflow: StandaloneAirflow) -> Iterator[tuple[float, str]]:
    """Yield the events in the task's logs, one log for each try."""
    for path in (airflow.home / "logs").rglob("attempt=*.log"):
        if not path.stem.partition("=")[2].isdigit():
            continue  # The trigger's log.
        of_task = {f"dag_id={dag_id}", f"run_id={run_id}", "task_id=hold"} <= set(path.parts)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if of_task else []
        moments = [(_moment(line), line) for line in lines]
        timed = [(moment, line) for moment, line in moments if moment is not None]
        if timed:
            yield timed[0][0], f"try {path.stem.partition('=')[2]}"
        yield from ((moment, "deferred") for moment, line in timed if "Pausing task as DEFERRED" in line)


def _moment(line: str) -> float | None:
    found = _MOMENT.search(line)
    return datetime.fromisoformat(found[0].replace(",", ".").replace("Z", "+00:00")).timestamp() if found else None


def keep(traces: list[dict[str, Any]], name: str) -> None:
    """Save traces for the model, one of each kind; they replace earlier ones of the same holders and events."""
    TRACES.mkdir(exist_ok=True)
    file = TRACES / f"{name}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    again = {(one["holder"], one["event"]) for one in traces}
    kinds = {(one["holder"], one["event"], in_order(one["seen"])): one for one in traces}
    kept = [*(one for one in before if (one["holder"], one["event"]) not in again), *kinds.values()]
    file.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n", encoding="utf-8")
