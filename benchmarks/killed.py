"""Marks each of ten concurrent tasks failed within seconds of its start, and counts the exports that still run.

Run it by hand: ``python benchmarks/killed.py --exports 300``. Ten exports take half a minute, and no page shows the
result. ``--traces FOLDER`` stores the stacks of each task's process once a second.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from serving import table

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.airflow_api import wait_until
from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED = ("failed", "success", "skipped", "upstream_failed")

#: In seconds: how long before and after its export's start a task is marked; and how long after the end of all tasks a
#: cancel still counts.
BEFORE, AFTER, CANCELLED_WITHIN = 4.0, 6.0, 40.0


class Round:
    """One run of ten tasks."""

    def __init__(self, number: int, airflow: StandaloneAirflow, emulator: Emulator, chance: random.Random) -> None:
        self.number, self._airflow, self._service, self._chance = number, airflow, emulator.service, chance
        self.run_id = airflow.trigger("ten", round=number)
        self._due: dict[str, float] = {}
        self._ran: dict[str, float] = {}
        self._marked: set[str] = set()
        #: Seconds from a task's start to its export's start, in this round.
        self.delays: list[float] = []

    def _tasks(self) -> dict[str, str]:
        tasks = self._airflow.call("GET", f"/dags/ten/dagRuns/{self.run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    def _find_due(self, expected: float) -> None:
        """Choose when to mark each task: one half around its export's expected start, the other half after it."""
        now = time.monotonic()
        for task_id, state in self._tasks().items():
            if state in ("running", "deferred") and task_id not in self._ran:
                self._ran[task_id] = now
                if task_id in "t0 t1 t2 t3 t4":
                    self._due[task_id] = now + max(0.0, expected + self._chance.uniform(-BEFORE, AFTER))
        for task_id in self._exports():
            if task_id in self._ran and task_id not in self._due:
                self.delays.append(now - self._ran[task_id])
                self._due[task_id] = now + self._chance.uniform(0, AFTER)

    def mark_all(self, expected: float, limit: float) -> None:
        """Mark each task at a moment of its own.

        :param expected: seconds from a task's start to its export's start, on a machine as busy as this one.
        """
        deadline = time.monotonic() + limit
        while len(self._marked) < 10 and time.monotonic() < deadline:
            self._find_due(expected)
            for task_id, due in self._due.items():
                if task_id not in self._marked and time.monotonic() >= due:
                    self._marked.add(task_id)
                    with suppress(RuntimeError, TimeoutError):
                        self._airflow.mark_task("ten", self.run_id, task_id, "failed")
            time.sleep(0.1)

    def _exports(self) -> dict[str, str]:
        """Return the state of each task's export; without tasks that have started none."""
        found = {}
        for name, operation in list(self._service.operations.items()):
            number, _, task_id = operation.description.partition("-")
            if number == str(self.number):
                found[task_id] = self._service.state(name)
        return found

    def ends(self) -> Iterator[tuple[str, str, str]]:
        """Wait until the tasks and exports end; yield each task with its state, and its export's state."""
        with suppress(TimeoutError):
            wait_until(lambda: set(self._tasks().values()) <= set(ENDED), timeout=20, what="the tasks", interval=1)
        running = ("PENDING", "RUNNING", "CANCELLING")
        with suppress(TimeoutError):
            wait_until(
                lambda: not any(state in running for state in self._exports().values()),
                timeout=CANCELLED_WITHIN,
                what="the cancels",
            )
        tasks = self._tasks()
        for task_id, state in self._exports().items():
            yield task_id, tasks[task_id], state

    def end(self) -> None:
        """End the run, so that none of it runs during the next round."""
        with suppress(RuntimeError, TimeoutError):
            self._airflow.mark_run("ten", self.run_id, "failed")


def measured(exports: int, minutes: float, seed: int, settings: dict[str, str], kept: Path | None) -> Counter[Any]:
    """Run one round after the other; return how often each pair of states was seen."""
    found: Counter[Any] = Counter()
    base = Path(tempfile.mkdtemp(prefix="airflow-ee-killed-"))
    (base / "dags").mkdir()
    shutil.copy(Path(__file__).parent / "dags" / "ten.py", base / "dags")
    with Emulator(Service(Behaviour(pending_seconds=3600, cancel_seconds=0.5))) as emulator:
        settings = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(),
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
            **settings,
        }
        chance, ends = random.Random(seed), time.monotonic() + 60 * minutes
        with StandaloneAirflow(base / "airflow", base / "dags", settings) as airflow:
            airflow.wait_for_dags("ten")
            number, expected = 0, 6.0
            while found.total() < exports and time.monotonic() < ends:
                number += 1
                one = Round(number, airflow, emulator, chance)
                one.mark_all(expected, 120)
                expected = median(one.delays) if one.delays else expected
                for task_id, state, export in one.ends():
                    found[state, export] += 1
                    if export != "CANCELLED":
                        print(f"  {one.run_id} {number}-{task_id}: task {state}, export {export}", flush=True)
                one.end()
                print(f"round {number}: {found.total()} exports: {dict(found)}", flush=True)
        if kept:
            shutil.copytree(base / "airflow" / "logs", kept / "logs", dirs_exist_ok=True)
    shutil.rmtree(base, ignore_errors=True)
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=30, help="after which no other round begins")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--traces", type=Path, help="a folder for stacks and logs")
    options = parser.parse_args()
    settings = {name: os.environ[name] for name in ("PYTHONPATH", "DEFERRABLE") if name in os.environ}
    if options.traces:
        options.traces.mkdir(parents=True, exist_ok=True)
        settings["TRACES"] = str(options.traces.resolve())
    found = measured(options.exports, options.minutes, options.seed, settings, options.traces)
    print("RESULT")
    rows = [[task, export, f"{count:,}"] for (task, export), count in sorted(found.items())]
    print(table(rows, "task", "its export", "exports"))


if __name__ == "__main__":
    main()
