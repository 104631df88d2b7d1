"""``make matrix``: every way in which a run can end, measured on one Airflow after the other.

``measure`` runs all cells on the Airflow of the running interpreter and writes what it saw as JSON; ``render`` writes
``docs/results/lifecycle.md`` from that. The exit code says whether every cell was as promised.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from booting import PRODUCTION, STANDALONE, booted, keep_evidence, new_emulator
from events import EVENTS
from lifecycle_page import page
from matrix_cells import HOLDERS, Cell
from production import ProductionAirflow, WrongClocks
from running import changed_files, mapped_group, run_cells
from tracing import keep, trace_of_cell

from dev.evidence import stamp

if TYPE_CHECKING:
    from dev.standalone import StandaloneAirflow


def measure(
    holders: list[str],
    events: list[str],
    airflow_class: type[StandaloneAirflow],
    traces: str,
    *,
    object_store: bool = False,
) -> list[Cell]:
    """Run the cells of these holders and events on the running interpreter's Airflow.

    :param traces: the name under which the cells' traces are stored for the model.
    """
    cells = [
        Cell(holder, event_id)
        for event_id, event in EVENTS.items()
        if event_id in events
        and event.is_known_to(airflow_version)
        and (not event.production or issubclass(airflow_class, ProductionAirflow))
        for holder in HOLDERS
        if holder in holders and holder in event.holders
    ]
    with (
        new_emulator() as emulator,
        booted(emulator, object_store=object_store, airflow_class=airflow_class) as airflow,
    ):
        run_cells(cells, airflow, emulator)
        if not getattr(airflow, "clocks", None):  # Wrong clocks write wrong times to the logs.
            keep([trace_of_cell(cell, airflow, emulator, airflow_version) for cell in cells], traces)
        if "mapped" in holders:
            cells += [mapped_group(airflow, emulator), *changed_files(airflow, emulator)]
        if not all(cell.kept for cell in cells):
            keep_evidence(airflow, emulator.service)
    return cells


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("result", type=Path)
    measuring.add_argument("--holders", nargs="*", help="measure only these again; the others stay as they are")
    measuring.add_argument("--events", nargs="*", default=list(EVENTS), help="measure only these again")
    measuring.add_argument("--object-store", action="store_true", help="keep XComs in an object store")
    measuring.add_argument("--production", action="store_true", help="on PostgreSQL and Celery, two of each")
    measuring.add_argument("--wrong-clocks", action="store_true", help="the same, two of them wrong by an hour")
    rendering = commands.add_parser("render")
    rendering.add_argument("page", type=Path)
    rendering.add_argument("results", type=Path, nargs="+")
    rendering.add_argument("--moments", type=Path, nargs="*", default=[], help="what `moments.py` has written")
    options = parser.parse_args()
    if options.command == "measure":
        again = options.result.exists() and (options.holders or options.events != list(EVENTS))
        old = json.loads(options.result.read_text(encoding="utf-8"))["cells"] if again else {}
        holders = options.holders or [*HOLDERS, "mapped"]
        airflow_class = WrongClocks if options.wrong_clocks else PRODUCTION if options.production else STANDALONE
        cells = measure(holders, options.events, airflow_class, options.result.stem, object_store=options.object_store)
        seen = old | {cell.dag_id: {"observed": cell.observed, "kept": cell.kept} for cell in cells}
        version = airflow_version + (", XComs in an object store" if options.object_store else "")
        version += ", as in production" if issubclass(airflow_class, ProductionAirflow) else ""
        version += ", two clocks wrong by an hour" if options.wrong_clocks else ""
        measured = f"{len(cells):,} cells, {stamp('matrix')}"
        result = {"version": version, "measured": measured, "cells": seen}
        options.result.write_text(json.dumps(result, indent=1), encoding="utf-8")
        return 0
    results: list[dict[str, Any]] = [json.loads(path.read_text(encoding="utf-8")) for path in options.results]
    at_moments = [json.loads(path.read_text(encoding="utf-8")) for path in options.moments]
    text, broken = page(results, at_moments, options.page.read_text(encoding="utf-8"))
    options.page.write_text(text, encoding="utf-8")
    print("\n".join(broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
