"""``make soak``: half an hour of failures on a real Airflow, and the result of each export: reliability.md."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import requests
from airflow import __version__ as airflow_version
from booting import STANDALONE, booted, keep_evidence, new_emulator
from outages import DISTURBANCES, DISTURBANCES_IN_PRODUCTION
from production import ProductionAirflow, WrongClocks
from soak_page import page
from soak_runs import SHAPES, Run, choose, dag_id_of, judge
from tracing import FOLLOWED, keep, trace_of_run

from airflow_ee_provider.tracking.audit import COLLECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outages import Outage

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service
    from dev.standalone import StandaloneAirflow

FAULTS = ("unavailable", "internal", "too_many_requests", "reset", "reset_after", "truncated", "html")
#: The share of requests to Earth Engine that meet a fault.
FAULT_RATE = 0.05

#: In seconds: how long a needed export runs; from the end of all runs to the judgement; between two disturbances.
SHORT, SETTLE, DISTURBED_EVERY = 45, 60, (240, 420)
#: Seconds between two disturbances in production, which has more parts; and how many times longer runs may take there.
DISTURBED_EVERY_IN_PRODUCTION, PATIENCE = (90, 150), 3


#: The heading of the page's section that another program writes.
EVERY_MOMENT = "\n## Every moment, in a model\n"

#: Errors if Airflow's API, or a service that it needs, is down or too busy.
AWAY = (requests.RequestException, RuntimeError, TimeoutError)


@dataclass
class Processes:
    """Samples of the memory and the open files of Airflow's parts."""

    samples: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    #: Samples of the number of PostgreSQL's clients.
    connections: list[int] = field(default_factory=list)

    def look(self, airflow: StandaloneAirflow) -> None:
        if isinstance(airflow, ProductionAirflow):
            with suppress(subprocess.CalledProcessError):  # PostgreSQL is down.
                self.connections.append(airflow.database.connections())
        for process in airflow.descendants():
            with suppress(psutil.Error):
                if part := part_of(process, airflow):
                    self.samples[part].append((process.memory_info().rss / 2**20, process.num_fds()))

    def rows(self) -> Iterator[list[Any]]:
        """Yield a row for each part: MiB and open files, in the second third and at the end."""
        for part, seen in self.samples.items():
            third = max(1, len(seen) // 3)
            begin, end = seen[third : 2 * third] or seen, seen[-third:]
            yield [part, *(f"{median(s[i] for s in when):.0f}" for i in (0, 1) for when in (begin, end))]


def part_of(process: psutil.Process, airflow: StandaloneAirflow) -> str:
    """Return the part of Airflow that a process is; empty for processes that run tasks, parsers and log servers."""
    line = " ".join(process.cmdline()).strip()
    if "api_server" in line:
        return "api-server" if line.endswith(f"port:{airflow.port}") else "api-server for tasks"
    if "MainProcess" in line:
        return "Celery worker"
    part = next((part for part in ("triggerer", "scheduler", "dag-processor") if f"airflow {part}" in line), "")
    if not part:
        return ""
    if process.parent().cmdline() != process.cmdline():
        return part
    return "triggerer's triggers" if part == "triggerer" else ""


@dataclass
class Soaked:
    """The runs and samples of a soak, and its errors."""

    service: Service
    runs: list[Run] = field(default_factory=list)
    processes: Processes = field(default_factory=Processes)
    done: Counter[str] = field(default_factory=Counter)
    #: When each disturbance began and ended.
    disturbed: list[tuple[float, float]] = field(default_factory=list)
    #: How many operations the collector has cancelled, according to Airflow's audit log.
    collected: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def undisturbed(self) -> list[Run]:
        """Return the runs without a disturbance during the time for which they are followed."""
        lives = [(run, run.started, run.happened + FOLLOWED if run.acted else run.ended) for run in self.runs]
        return [
            run
            for run, begin, end in lives
            if (run.acted or run.event == "nothing")
            and not any(begin < back + SETTLE and gone < end for gone, back in self.disturbed)
        ]


def disturb(soaked: Soaked, airflow: StandaloneAirflow, emulator: Emulator, what: str, outage: Outage) -> Thread:
    """Cause an outage in a thread, while the soak continues."""

    def happen() -> None:
        gone = time.time()
        try:
            outage.happen([], airflow, emulator)
            soaked.done[what] += 1
        except Exception:  # noqa: BLE001 (any error is printed and counted)
            soaked.done[f"{what}, which failed"] += 1
            traceback.print_exc()
        soaked.disturbed.append((gone, time.time()))

    thread = Thread(target=happen)
    thread.start()
    return thread


def soak(seconds: float, every: float, chance: random.Random, *, production: bool) -> Soaked:
    """Start runs and cause their events for some time; then wait until all runs have ended, and judge."""
    disturbances = DISTURBANCES_IN_PRODUCTION if production else DISTURBANCES
    disturbed_every = DISTURBED_EVERY_IN_PRODUCTION if production else DISTURBED_EVERY
    patience = {"SOAK_PATIENCE": str(PATIENCE if production else 1)}
    with new_emulator() as emulator:
        service = emulator.service
        soaked = Soaked(service)
        runs = soaked.runs
        service.behave("short*", run_seconds=SHORT)
        for fault in FAULTS:
            service.fail(fault, times=None, probability=FAULT_RATE / len(FAULTS), path="projects/*")
        with booted(emulator, more=patience, airflow_class=WrongClocks if production else STANDALONE) as airflow:
            airflow.wait_for_dags(*(dag_id_of(shape, is_bare=bare) for shape in SHAPES for bare in (False, True)))
            started = time.time()
            next_run, next_disturbance = started, started + chance.uniform(*disturbed_every)
            disturbance: Thread | None = None
            queue: list[str] = []
            while (now := time.time()) < started + seconds or not all(run.finished for run in runs):
                is_under_way = now < started + seconds
                if now >= next_run and is_under_way:
                    with suppress(*AWAY):
                        runs.append(choose(chance, airflow))
                    next_run = now + chance.uniform(0.5, 1.5) * every
                if now >= next_disturbance and is_under_way and not (disturbance and disturbance.is_alive()):
                    queue = queue or chance.sample(list(disturbances), len(disturbances))  # All are equally frequent.
                    what = queue.pop()
                    print(f"{now - started:6.0f} s  {what}", flush=True)
                    disturbance = disturb(soaked, airflow, emulator, what, disturbances[what])
                    next_disturbance = now + chance.uniform(*disturbed_every)
                for run in [run for run in runs if not run.finished]:
                    with suppress(psutil.Error, *AWAY):  # The next pass looks again.
                        run.look(airflow)
                soaked.processes.look(airflow)
                states = dict(Counter(run.state for run in runs))
                print(f"{now - started:6.0f} s  {states}  {len(service.operations)} exports", flush=True)
                if now > started + seconds + 900 * PATIENCE:
                    break
                time.sleep(3)
            if disturbance:
                disturbance.join()
            time.sleep(SETTLE)
            soaked.wrong = judge(runs, service)
            collected = airflow.call("GET", "/eventLogs?event=earth_engine.cancel&limit=1&owner=" + quote(COLLECTOR))
            soaked.collected = collected["total_entries"]
            if not production:  # In production, wrong clocks write wrong times to the logs.
                traces = [trace_of_run(run, airflow, emulator, airflow_version) for run in soaked.undisturbed()]
                keep(traces, f"soak-{airflow_version}")
            if any(soaked.wrong.values()):
                keep_evidence(airflow, service)
    soaked.done.update(run.event for run in runs if run.had_its_event)
    return soaked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--exports", type=int, default=300)
    parser.add_argument("--production", action="store_true", help="on PostgreSQL and Celery, two of each")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"The seed is {options.seed}: --seed {options.seed} does the same again.", flush=True)
    seconds = options.minutes * 60
    every = seconds * (sum(SHAPES.values()) / len(SHAPES) + 1) / options.exports
    soaked = soak(seconds, every, random.Random(options.seed), production=options.production)
    text = page(options, soaked, FAULTS, FAULT_RATE)
    print(text)
    for what, which in soaked.wrong.items():
        print(f"{what}: {len(which)}", *which, sep="\n  ")
    before = options.page.read_text(encoding="utf-8") if options.page.exists() else ""
    _, separator, moments = before.partition(EVERY_MOMENT)  # `make explore` writes this section.
    options.page.write_text(text + separator + moments, encoding="utf-8")
    return 1 if any(soaked.wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
