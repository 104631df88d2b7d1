"""``make matrix``: every way in which a run can end, measured on one Airflow after the other.

``measure`` runs all cells on the Airflow of the running interpreter and writes what it saw as JSON; ``render`` writes
``docs/results/lifecycle.md`` from that. The exit code says whether every cell was as promised.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow import __version__ as airflow_version
from airflow_2 import StandaloneAirflow2
from answers import check_who_answered
from changed_file import change_files
from events import EVENTS
from expectations import CANCEL_WITHIN, judge, requested
from lifecycle_page import page
from matrix_cells import HOLDERS, PROJECT, Cell
from outages import OUTAGES
from production import ProductionAirflow, ProductionAirflow2, WrongClocks
from tokens import TokenServer
from tracing import keep, trace_of_cell

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.airflow_api import wait_until
from dev.evidence import stamp
from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outages import Outage

IS_AIRFLOW_2 = airflow_version.startswith("2.")
#: Two ways to run an Airflow: on SQLite, in one process after the other; and as in production.
STANDALONE: type[StandaloneAirflow] = StandaloneAirflow2 if IS_AIRFLOW_2 else StandaloneAirflow
PRODUCTION: type[ProductionAirflow] = ProductionAirflow2 if IS_AIRFLOW_2 else ProductionAirflow

A = TypeVar("A", bound=StandaloneAirflow)

#: Two cores cannot start more runs at once and still be on time.
BATCH = 8

MAPPED = 20

#: A lost worker is noticed when its heartbeat is missed: five minutes by default, here sooner.
QUICK_HEARTBEATS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    # The same in Airflow 2.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "5",
}


@contextmanager
def booted(
    emulator: Emulator,
    *,
    object_store: bool = False,
    more: Mapping[str, str] | None = None,
    airflow_class: type[A] = STANDALONE,  # type: ignore[assignment]
) -> Iterator[A]:
    """Boot the running interpreter's Airflow, with the cells' DAGs and the examples.

    :param object_store: keep XComs in one: a custom backend.
    :param more: settings.
    :param airflow_class: what kind of Airflow: ``PRODUCTION``, for example.
    """
    base = Path(tempfile.mkdtemp(prefix="airflow-ee-system-"))
    here = Path(__file__).parent
    shutil.copytree(here / "dags", base / "dags")
    shutil.copytree(here.parents[1] / "example_dags", base / "dags" / "examples")
    with TokenServer() as tokens:  # google-auth's own way, so that there are secrets to be kept.
        connection = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": tokens.airflow_connection(emulator.url, PROJECT),
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
        }
        stored = {
            "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": (base / "xcoms").as_uri(),
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
        }
        support = here.parent / "support"
        paths = {"PYTHONPATH": os.pathsep.join(map(str, (here, support, os.environ.get("PYTHONPATH", ""))))}
        settings = QUICK_HEARTBEATS | connection | paths | (stored if object_store else {}) | dict(more or {})
        made = airflow_class(base / "airflow", base / "dags", settings)
        # What a janitor of Airflow 3 asks who holds what.
        made.environment["AIRFLOW_CONN_AIRFLOW_API"] = json.dumps({"conn_type": "http", "host": made.url})
        with made as airflow:
            print(f"Airflow {airflow_version} is up at {airflow.url}; its home is {airflow.home}", flush=True)
            yield airflow
    shutil.rmtree(base, ignore_errors=True)  # Kept where something went wrong.


def new_emulator() -> Emulator:
    """Make the Earth Engine of the system tests."""
    return Emulator(Service(Behaviour(pending_seconds=1, run_seconds=3600)))


def keep_evidence(airflow: StandaloneAirflow, service: Service) -> None:
    """Copy what tells why something is wrong: Airflow's home, and what Earth Engine was asked."""
    kept = Path(tempfile.mkdtemp(prefix="airflow-ee-evidence-"))
    print(f"Something is wrong: the logs are in {kept}", flush=True)
    shutil.copytree(airflow.home, kept / "airflow", ignore_dangling_symlinks=True)
    (kept / "journal.json").write_text(json.dumps(service.journal, indent=1), encoding="utf-8")


def start(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """Start cells, once each DAG has another run that holds an operation."""
    with_bystander = [cell for cell in cells if cell.has_bystander]
    for cell in with_bystander:
        cell.start_bystander(airflow, emulator)
    for cell in with_bystander:
        cell.wait_for_bystander(airflow, emulator)
    for cell in cells:
        cell.start(airflow, emulator)


def let_happen(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """Start cells side by side, a few at a time, and let happen to each what is to happen."""
    for first in range(0, len(cells), BATCH):
        batch = cells[first : first + BATCH]
        start(batch, airflow, emulator)
        for cell in batch:
            cell.wait_until_held(airflow, emulator)
        time.sleep(3)  # The operations are to be held for a while, not caught at their start.
        for cell in batch:
            cell.act(airflow)
        print(f"  {first + len(batch)} of {len(cells)} cells have happened", flush=True)


def without_something(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator, outage: Outage) -> None:
    """Let something go while cells hold their operations, and come back."""
    start(cells, airflow, emulator)
    for cell in cells:
        cell.wait_until_held(airflow, emulator)
    time.sleep(3)
    outage.happen(cells, airflow, emulator)


def mapped_group(airflow: StandaloneAirflow, emulator: Emulator, patience: float = 0.0) -> Cell:
    """Twenty mapped sensors, deferred; the run is marked failed. The slowest of them counts."""
    cell = Cell("mapped", "run_marked_failed")
    cell.operations = [emulator.service.add(cell.dag_id, PROJECT) for _ in range(MAPPED)]
    cell.run_id = airflow.trigger(cell.dag_id, operation_names=cell.operations)
    instances = f"/dags/{cell.dag_id}/dagRuns/{cell.run_id}/taskInstances"

    def all_deferred() -> bool:
        states = [task["state"] for task in airflow.call("GET", instances)["task_instances"]]
        looked = all(emulator.service.operations[name].reads >= 2 for name in cell.operations)
        return states.count("deferred") == MAPPED and looked

    wait_until(all_deferred, timeout=240, what="the mapped tasks to be deferred")
    time.sleep(3)
    cell.happened = time.time()
    airflow.mark_run(cell.dag_id, cell.run_id, "failed")
    states = {"": 0}

    def all_cancelled() -> bool:
        found = [emulator.service.state(name) for name in cell.operations]
        states.clear()
        states.update({state: found.count(state) for state in found})
        return states.get("CANCELLED") == MAPPED

    try:
        wait_until(all_cancelled, timeout=CANCEL_WITHIN + patience, what="all to be cancelled")
    except TimeoutError:
        cell.observed = f"{states} after {CANCEL_WITHIN + patience:g} s"
        return cell
    cell.kept = True
    cell.observed = f"{max(requested(emulator, name) or 0.0 for name in cell.operations) - cell.happened:.1f} s"
    return cell


def changed_files(airflow: StandaloneAirflow, emulator: Emulator) -> Iterator[Cell]:
    """Change DAGs' files while their runs are under way, side by side."""
    for name, (kept, observed) in change_files(airflow, emulator).items():
        cell = Cell("changed", name, kept=kept, observed=observed)
        print(f"  {'kept  ' if cell.kept else 'BROKEN'} {name}: {cell.observed}", flush=True)
        yield cell


def run_cells(cells: list[Cell], airflow: StandaloneAirflow, emulator: Emulator, patience: float = 0.0) -> None:
    """Let everything happen to all cells, and judge what became of their operations.

    :param patience: seconds that all may take beyond what is promised: a test is no measurement.
    """
    airflow.wait_for_dags("janitor", *(cell.dag_id for cell in cells))
    let_happen([cell for cell in cells if cell.event not in OUTAGES], airflow, emulator)
    # The others' operations need a triggerer, so they are judged before it goes.
    for outage in (None, *dict.fromkeys(OUTAGES.values())):
        group = [cell for cell in cells if OUTAGES.get(cell.event) is outage]
        if outage and group:
            without_something(group, airflow, emulator, outage)
        for cell in group:
            judge(cell, airflow, emulator, patience)
            verdict = "kept  " if cell.kept else "BROKEN"
            print(f"  {verdict} {cell.event:<26} {cell.holder:<20} {cell.observed}", flush=True)
    check_who_answered(cells, airflow.home)


def measure(
    holders: list[str],
    events: list[str],
    airflow_class: type[StandaloneAirflow],
    traces: str,
    *,
    object_store: bool = False,
) -> list[Cell]:
    """Run the cells of these holders and events on the running interpreter's Airflow.

    :param traces: under which name those of the cells are kept for the model.
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
        if not getattr(airflow, "clocks", None):  # Logs have the times of their machines.
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
