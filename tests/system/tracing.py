"""What is seen of a task from outside, in its order, for the model to be compared with: `tests/model/traces.py`."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cells import Cell

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

#: Where the model reads them.
TRACES = Path(__file__).parents[1] / "model" / "traces"

#: What happened to the task; and how it can end.
STRUCK, ENDS = "~~~", ("success", "failed", "skipped")

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)")


def trace(cell: Cell, airflow: StandaloneAirflow, emulator: Emulator, version: str) -> dict[str, Any]:
    """Return what was seen of a cell's task, in seconds since its run began."""
    seen = [(cell.happened, STRUCK), *_in_logs(cell, airflow)]
    for name in cell.started(emulator) if cell.starts_it_itself else cell.operations:
        operation = emulator.service.operations[name]
        if cell.starts_it_itself:
            seen.append((operation.created, "export"))
        if operation.cancel_requested is not None:
            seen.append((operation.cancel_requested, "cancel"))
    began = min(moment for moment, _ in seen)
    seen = [(round(moment - began, 2), what) for moment, what in sorted(seen)]
    with suppress(RuntimeError):  # The run is deleted.
        state = airflow.task(cell.dag_id, cell.run_id, "hold")["state"]
        if state in ENDS:
            seen.append((1e6, f"ended: {state}"))
    return {"version": version, "holder": cell.holder, "event": cell.event, "seen": seen}


def _in_logs(cell: Cell, airflow: StandaloneAirflow) -> Iterator[tuple[float, str]]:
    """Yield what the task's logs tell: one for each try."""
    for path in (airflow.home / "logs").rglob("attempt=*.log"):
        if not path.stem.partition("=")[2].isdigit():
            continue  # The trigger's.
        of_task = {f"dag_id={cell.dag_id}", f"run_id={cell.run_id}", "task_id=hold"} <= set(path.parts)
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
    """Keep traces for the model, in place of those of the same cells."""
    TRACES.mkdir(exist_ok=True)
    file = TRACES / f"{name}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    kept = {(one["holder"], one["event"]): one for one in [*before, *traces]}
    lines = ",\n".join(json.dumps(one) for one in kept.values())
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
