"""Thousands of exports on a real Airflow: killed or marked failed during their start, and through a full queue."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "system"))

from booting import booted
from serving import table
from test_many import COUNT, STARTING, running, started

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from dev.standalone import StandaloneAirflow

KILLS, MAPPED, TILES, QUEUE = 10, 300, 10_000, 3_000


def killed(airflow: StandaloneAirflow, emulator: Emulator, dag_id: str = "many_in_worker") -> str:
    """Kill a task several times while it starts its exports; return the row of the table."""
    emulator.service.behave("many*", pending_seconds=0, run_seconds=20, cancel_seconds=1)
    counts: Counter[int] = Counter()
    for _ in range(KILLS):
        run_id = airflow.trigger(dag_id, die_after=random.uniform(0.0, STARTING))
        airflow.wait_for_task(dag_id, run_id, "tiles", "success", "failed", timeout=300)
        counts[len(started(emulator, run_id))] += 1
    told = ", ".join(f"{times} times {count:,}" for count, times in counts.items())
    how = ", with `batch_starts`" if dag_id == "many_batched" else ""
    return f"a task that starts {COUNT}{how}, killed (SIGKILL) {KILLS} times at a random moment of it | exports: {told}"


def killed_batched(airflow: StandaloneAirflow, emulator: Emulator) -> str:
    """Do the same to a function that starts its exports in a loop."""
    return killed(airflow, emulator, "many_batched")


def marked_batched(airflow: StandaloneAirflow, emulator: Emulator) -> str:
    """Mark a run failed while the exports that a loop has registered are being started."""
    emulator.service.behave("many*", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    run_id = airflow.trigger("many_batched")
    wait_until(lambda: len(started(emulator, run_id)) >= COUNT // 3, timeout=300, what="a third to be started")
    airflow.mark_run("many_batched", run_id, "failed")
    wait_until(lambda: not running(emulator, run_id), timeout=300, what="the exports to end")
    time.sleep(20)
    count, left = len(started(emulator, run_id)), len(running(emulator, run_id))
    return f"the same, its run marked failed amid their start | {count} were started; {left} left running"


def marked(airflow: StandaloneAirflow, emulator: Emulator) -> str:
    """Mark a run failed while its mapped tasks start."""
    emulator.service.behave("many*", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    run_id = airflow.trigger("many_mapped", count=MAPPED)
    wait_until(lambda: len(started(emulator, run_id)) >= MAPPED // 3, timeout=1200, what="a third to be started")
    airflow.mark_run("many_mapped", run_id, "failed")
    began = time.monotonic()
    wait_until(lambda: not running(emulator, run_id), timeout=300, what="the exports to end")
    took = time.monotonic() - began
    time.sleep(20)
    count, left = len(started(emulator, run_id)), len(running(emulator, run_id))
    return (
        f"{MAPPED} mapped tasks with an export each, their run marked failed amid their start | {count} were started; "
        f"{left} still running, the last one cancelled after {took:.0f} s"
    )


def queued(airflow: StandaloneAirflow, emulator: Emulator) -> str:
    """Run more exports of one task than the project's queue holds."""
    service = emulator.service
    service.behave("many*", pending_seconds=40, run_seconds=10, cancel_seconds=1)
    before, began = len(service.journal), time.monotonic()
    run_id = airflow.trigger("many_in_triggerer", count=TILES)
    most = 0

    def is_over() -> bool:
        nonlocal most
        most = max(most, len(running(emulator, run_id)))
        return airflow.task("many_in_triggerer", run_id, "tiles")["state"] in ("success", "failed")

    wait_until(is_over, timeout=1500, what="the tiles to end", interval=3)
    task = airflow.task("many_in_triggerer", run_id, "tiles")
    states = Counter(service.state(name) for name in started(emulator, run_id))
    return (
        f"{TILES:,} exports of one task through a queue of {QUEUE:,} | {task['state']} in try {task['try_number']}; "
        f"{', '.join(f'{count:,} {state}' for state, count in states.items())}; {most:,} at once at most, "
        f"{len(service.journal) - before:,} requests, {time.monotonic() - began:.0f} s"
    )


def main() -> None:
    """Boot an Airflow, and run all scenarios."""
    service = Service(Behaviour(pending_seconds=1, run_seconds=3600), queue_limit=QUEUE)
    rows = []
    with Emulator(service) as emulator, booted(emulator) as airflow:
        airflow.wait_for_dags("many_in_worker", "many_in_triggerer", "many_mapped", "many_batched")
        for measure in (killed, killed_batched, marked_batched, queued, marked):
            row = measure(airflow, emulator)
            print(row, flush=True)
            rows.append(row.split(" | "))
    print("RESULT")
    print("On a real Airflow with SQLite and the LocalExecutor, against the emulator.\n")
    print(table(rows, "scenario", "result"))


if __name__ == "__main__":
    main()
