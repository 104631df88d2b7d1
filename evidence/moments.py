"""Part of ``make matrix``: which operations keep running if a user or a timeout ends a task at a moment of its start.

Only the task itself can cancel: the DAGs have no callback and no teardown. Another run of each DAG has no event: its
operations must keep running.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from booting import booted, keep_evidence, new_emulator

from dev.evidence import stamp

if TYPE_CHECKING:
    from airflow_ee_provider.emulator.service import Service
    from dev.standalone import StandaloneAirflow

#: Words of the vocabulary.
EVENTS = ("task_marked_failed", "task_marked_success", "task_cleared", "run_marked_failed", "dagrun_timeout")
SHAPES = ("deferred", "worker", "by_itself", "sensor")

#: How many tasks start at the same time; on two cores, more tasks would start late.
AT_ONCE = 5

#: In seconds after the task's start, the range of the event: before, while and after the task starts its operations.
MOMENTS = (0.0, 9.0)

#: In seconds after the event: when all cancels should be done; and when an operation that still runs counts as left,
#: even on a slow machine.
QUIET, PATIENCE = 40.0, 120.0


@dataclass
class Moment:
    """A run, and its event."""

    shape: str
    event: str
    after: float
    run_id: str = ""
    dag_id: str = ""
    happened: float | None = None
    state: str = ""
    began: float | None = None

    def start(self, airflow: StandaloneAirflow, chance: random.Random) -> None:
        timeout = f"_timeout_{chance.randint(4, 9)}" if self.event == "dagrun_timeout" else ""
        self.dag_id = f"moment_{self.shape}{timeout}"
        self.run_id = airflow.trigger(self.dag_id)

    def look(self, airflow: StandaloneAirflow) -> None:
        """Cause the event when it is due."""
        if self.happened is not None:
            return
        task = airflow.task(self.dag_id, self.run_id, "hold")
        if self.began is None and task["state"] in ("running", "deferred"):
            self.began = time.time()
        if self.event == "dagrun_timeout":
            if airflow.run(self.dag_id, self.run_id)["state"] == "failed":
                self.happened = time.time()
            return
        if self.began is None or time.time() < self.began + self.after:
            return
        self.state = task["state"]
        self.act(airflow)

    def act(self, airflow: StandaloneAirflow) -> None:
        """Cause the event."""
        if self.event == "run_marked_failed":
            airflow.mark_run(self.dag_id, self.run_id, "failed")
        elif self.event == "task_cleared":
            airflow.clear(self.dag_id, self.run_id, "hold")
        else:
            airflow.mark_task(self.dag_id, self.run_id, "hold", self.event.rpartition("_")[2])
        self.happened = time.time()

    def is_lost(self, airflow: StandaloneAirflow) -> bool:
        """Whether Airflow has lost the event.

        On SQLite, which locks no row, a deferral at the same moment as a mark can overwrite the mark: the UI shows the
        task as deferred, and a user would mark it again.
        """
        if self.event == "run_marked_failed":
            return bool(airflow.run(self.dag_id, self.run_id)["state"] == "running")
        state = airflow.task(self.dag_id, self.run_id, "hold")["state"]
        return self.event.startswith("task_marked") and state in ("running", "deferred")

    def is_void(self, airflow: StandaloneAirflow) -> bool:
        """Whether the run ended before its sensor's code ran: another task had started the export and left it."""
        if self.shape != "sensor":
            return False
        return self.began is None or airflow.xcom(self.dag_id, self.run_id, "hold", "_earth_engine_operations") is None

    def mine(self, service: Service) -> list[Any]:
        return [o for o in list(service.operations.values()) if o.description.startswith(self.run_id)]


def left_running(moment: Moment, service: Service) -> list[str]:
    """Return the running operations that no task needs: after a clear, all but those of the next try."""
    now = service.clock.now()
    running = sorted((o for o in moment.mine(service) if not o.done(now)), key=lambda o: o.created)
    if moment.event != "task_cleared":
        return [o.name for o in running]
    by_description = Counter(o.description for o in running)
    return [f"{count} of {description}" for description, count in by_description.items() if count > 1]


@dataclass
class Seen:
    """The results of all moments."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    started: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    #: How often Airflow lost an event, so that it was caused again.
    repeated: int = 0
    wrongly: list[str] = field(default_factory=list)


def tried(airflow: StandaloneAirflow, service: Service, moments: list[Moment], chance: random.Random) -> Seen:
    """Run all moments, a few at the same time, and judge each when its cancels should be done."""
    seen = Seen()
    airflow.wait_for_dags("moment_deferred")
    bystanders = {shape: airflow.trigger(f"moment_{shape}") for shape in SHAPES}
    for shape, run_id in bystanders.items():
        airflow.wait_for_task(f"moment_{shape}", run_id, "hold", "deferred", "running", timeout=180)
    time.sleep(8)
    todo, under_way, quiet = list(moments), list[Moment](), list[Moment]()
    while todo or under_way or quiet:
        while todo and len(under_way) < AT_ONCE:
            under_way.append(todo.pop())
            under_way[-1].start(airflow, chance)
        for moment in list(under_way):
            with suppress(RuntimeError, TimeoutError):  # If Airflow is too busy, the next pass looks again.
                moment.look(airflow)
            if moment.happened is not None:
                under_way.remove(moment)
                quiet.append(moment)
        for moment in [moment for moment in quiet if conclude(moment, airflow, service, seen)]:
            quiet.remove(moment)
            if left_running(moment, service) and moment.is_void(airflow):
                todo.append(Moment(moment.shape, moment.event, moment.after))
                continue
            judge(moment, service, seen)
            airflow.mark_run(moment.dag_id, moment.run_id, "failed")  # End everything that still runs.
            if not sum(seen.counts.values()) % 10:
                print(f"  {sum(seen.counts.values())} of {len(moments)}, {len(seen.left)} left", flush=True)
        time.sleep(0.1)
    for run_id in bystanders.values():
        mine = [o for o in service.operations.values() if o.description.startswith(run_id)]
        seen.wrongly += [o.name for o in mine if o.cancel_requested is not None]
    return seen


def conclude(moment: Moment, airflow: StandaloneAirflow, service: Service, seen: Seen) -> bool:
    """Return whether it is time to judge a moment; cause its event again if Airflow has lost it."""
    waited = time.time() - (moment.happened or 0)
    if waited <= QUIET or not left_running(moment, service):
        return waited > QUIET
    if moment.is_lost(airflow):
        moment.act(airflow)
        seen.repeated += 1
        return False
    return waited > PATIENCE


def judge(moment: Moment, service: Service, seen: Seen) -> None:
    key = (moment.shape, moment.event)
    seen.counts[key] += 1
    seen.started[key] += bool(moment.mine(service))
    for name in left_running(moment, service):
        seen.left.append(f"{moment.shape} {moment.event} after {moment.after:.1f} s ({moment.state}): {name}")
        print("  LEFT", seen.left[-1], moment.run_id, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--each", type=int, default=50, help="moments for each event")
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--events", nargs="*", default=EVENTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    moments = [
        Moment(options.shapes[n % len(options.shapes)], event, chance.uniform(*MOMENTS))
        for event in options.events
        for n in range(options.each)
    ]
    chance.shuffle(moments)
    with new_emulator() as emulator, booted(emulator) as airflow:
        seen = tried(airflow, emulator.service, moments, chance)
        if seen.left or seen.wrongly:
            keep_evidence(airflow, emulator.service)
    found: dict[str, Any] = {
        "version": airflow_version,
        "measured": str(stamp("moments")),
        "left": seen.left,
        "wrongly": seen.wrongly,
        "repeated": seen.repeated,
        "events": {},
    }
    for event in options.events:
        found["events"][event] = {
            "moments": sum(n for (_, e), n in seen.counts.items() if e == event),
            "with operations": sum(n for (_, e), n in seen.started.items() if e == event),
            "left running": sum(f" {event} after" in line for line in seen.left),
        }
    options.result.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 1 if seen.left or seen.wrongly else 0


if __name__ == "__main__":
    sys.exit(main())
