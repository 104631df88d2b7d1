"""``make demo``: the example DAGs on a real Airflow, against an emulated Earth Engine, and the result of each export.

Ends with exit code 0 only if every operation ended as it should. ``KEEP=1`` leaves Airflow running, to look around.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from airflow_ee_provider.tracking.record import OPERATIONS_KEY
from dev.airflow_api import seconds_since_epoch
from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "earth-demo"
#: The time limit of all scenarios together, in seconds.
TIME_LIMIT = 240.0
DAGRUN_TIMEOUT = 60.0  # As in the example.

_COLOURS = {"SUCCEEDED": "green", "CANCELLED": "green", "success": "green", "failed": "red", "FAILED": "red"}


@dataclass
class Scenario:
    """One DAG run, its event, and how its operation must end.

    :param act: causes the event, once a task waits for the export; None if the DAG itself causes it.
    :param starts: the task that starts the export.
    :param happened_at: returns the time of the event, in seconds since the epoch; None before it.
    """

    title: str
    dag_id: str
    happened_at: Callable[[Scenario, StandaloneAirflow], float | None]
    act: Callable[[Scenario, StandaloneAirflow, Service], Any] | None = None
    conf: dict[str, Any] | None = None
    starts: str = "start_export"
    expected: str = "CANCELLED"
    run_id: str = ""
    run_state: str = ""
    operation: str = ""
    state: str = ""
    acted: float | None = None
    happened: float | None = None
    requested: float | None = None
    confirmed: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the DAG run and the operation have ended, and the event has happened."""
        return self.run_state in ("success", "failed") and self.confirmed is not None and self.happened is not None

    @property
    def as_expected(self) -> bool:
        """Whether the operation ended as it should, and no cancel was requested for an export that should succeed."""
        return self.finished and self.state == self.expected and bool(self.requested) == (self.expected == "CANCELLED")

    def look(self, airflow: StandaloneAirflow, service: Service) -> None:
        """Update the states, and cause the event when it is due."""
        self.run_state = airflow.run(self.dag_id, self.run_id)["state"]
        if not self.operation:
            recorded = airflow.xcom(self.dag_id, self.run_id, self.starts, OPERATIONS_KEY)
            self.operation = recorded["operation_names"][0] if recorded else ""
            return
        operation, now = service.operations[self.operation], service.clock.now()
        self.state = operation.state(now)
        self.confirmed = operation.ended() if operation.done(now) else None
        cancels = service.requests("POST", f"{self.operation}:cancel")
        self.requested = cancels[0]["time"] if cancels else None
        # The task that starts the export reads it first, then the task that waits, then its trigger, if there is one:
        # from then on the triggerer runs the trigger, and a kill can reach it.
        if self.act and self.acted is None and operation.reads >= 3:
            self.acted = time.time()
            self.act(self, airflow, service)
        self.happened = self.happened or self.happened_at(self, airflow)


def _acted(scenario: Scenario, airflow: StandaloneAirflow) -> float | None:  # noqa: ARG001
    return scenario.acted


def _task_failed(scenario: Scenario, airflow: StandaloneAirflow) -> float | None:
    task = airflow.task(scenario.dag_id, scenario.run_id, "check_inputs")
    return seconds_since_epoch(task["end_date"]) if task["state"] == "failed" else None


def _timed_out(scenario: Scenario, airflow: StandaloneAirflow) -> float | None:
    due = seconds_since_epoch(airflow.run(scenario.dag_id, scenario.run_id)["start_date"]) + DAGRUN_TIMEOUT
    return due if time.time() >= due else None


def scenarios() -> list[Scenario]:
    """Return the scenarios of the demo."""
    example, failing = "example_earth_engine_cancel", {"simulate_failure": True}
    return [
        Scenario("a task fails: the DAG's callback", f"{example}_on_failure", _task_failed, conf=failing),
        Scenario("a task fails: the operator", f"{example}_operator", _task_failed, conf=failing),
        Scenario("the DAG run times out", f"{example}_on_dagrun_timeout", _timed_out, starts="export"),
        Scenario(
            "the waiting task is cleared",
            f"{example}_on_kill",
            _acted,
            lambda this, airflow, _: airflow.clear(this.dag_id, this.run_id, "wait"),
        ),
        Scenario(
            "the waiting task is marked failed",
            f"{example}_on_kill",
            _acted,
            lambda this, airflow, _: airflow.mark_task(this.dag_id, this.run_id, "wait", "failed"),
        ),
        Scenario(
            "the run is marked failed",
            f"{example}_teardown",
            _acted,
            lambda this, airflow, _: airflow.mark_run(this.dag_id, this.run_id, "failed"),
        ),
        Scenario(
            "nothing: the export succeeds",
            f"{example}_on_kill",
            _acted,
            lambda this, _, service: service.finish(this.operation),
            expected="SUCCEEDED",
        ),
    ]


def table(shown: list[Scenario]) -> Table:
    """Return a table of the progress of all scenarios."""
    made = Table(title="Earth Engine exports whose DAG no longer wants them", title_justify="left")
    for heading in ("What happens", "DAG run", "Operation", "Earth Engine says"):
        made.add_column(heading, overflow="fold")
    made.add_column("cancel requested after", justify="right")
    made.add_column("confirmed after", justify="right")
    for scenario in shown:
        made.add_row(
            scenario.title,
            _coloured(scenario.run_state),
            scenario.operation.rpartition("/")[2][:12],
            _coloured(scenario.state),
            _seconds(scenario, scenario.requested),
            _seconds(scenario, scenario.confirmed if scenario.expected == "CANCELLED" else None),
        )
    return made


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'yellow')}]{state}[/]" if state else ""


def _seconds(scenario: Scenario, moment: float | None) -> str:
    return f"{moment - scenario.happened:.1f} s" if moment and scenario.happened else ""


def play(airflow: StandaloneAirflow, service: Service, console: Console, time_limit: float = TIME_LIMIT) -> bool:
    """Run all scenarios at the same time; return whether every operation ended as it should within the time limit."""
    shown = scenarios()
    airflow.wait_for_dags(*{scenario.dag_id for scenario in shown})
    for scenario in shown:
        scenario.run_id = airflow.trigger(scenario.dag_id, **(scenario.conf or {}))
    started = time.monotonic()
    with Live(table(shown), console=console, auto_refresh=False) as live:
        while not all(scenario.finished for scenario in shown) and time.monotonic() - started < time_limit:
            for scenario in shown:
                was = (scenario.run_state, scenario.state)
                scenario.look(airflow, service)
                if not console.is_terminal and was != (scenario.run_state, scenario.state):
                    console.print(f"{time.strftime('%X')}  {scenario.title}: {scenario.run_state}, {scenario.state}")
                live.update(table(shown), refresh=console.is_terminal)
            time.sleep(1)
    console.print()
    wrong = [scenario.title for scenario in shown if not scenario.as_expected]
    if wrong:
        console.print(f"[red]Not as it should be:[/] {'; '.join(wrong)}.")
    else:
        console.print(f"[green]All {len(shown)} operations ended as they should:[/] Earth Engine itself says so.")
    return not wrong


def main() -> int:
    """Run the demo; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # On SIGTERM, Airflow ends, too.
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--dags-folder", type=Path, required=True, help="the folder with the example DAGs")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 130)
    home = Path(tempfile.mkdtemp(prefix="airflow-ee-demo-"))
    service = Service(Behaviour(pending_seconds=3, run_seconds=3600, cancel_seconds=2))
    with Emulator(service) as emulator:
        console.print(f"An emulated Earth Engine answers at {emulator.url}; starting Airflow in {home} …")
        connection = {"AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(PROJECT)}
        with StandaloneAirflow(home, options.dags_folder, connection) as airflow:
            console.print(f"Airflow is up at {airflow.url}")
            page = f"{airflow.url}/plugin/earth-engine"
            console.print(f"Who holds which operation: {page}")
            good = play(airflow, service, console)
            if os.environ.get("KEEP"):
                console.print(f"Look around at {page} (no password is needed); Ctrl-C ends it.")
                with suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(60)
    if good:
        shutil.rmtree(home, ignore_errors=True)
        console.print("KEEP=1 make demo stays up, with the page of all operations at /plugin/earth-engine.")
    else:
        console.print(f"The logs are in {home}.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
