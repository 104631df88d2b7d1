"""Half an hour of a company's Airflow: 200 DAGs with 15 mapped exports each, on PostgreSQL and Celery.

It also measures an operator that only sleeps, without this package. The difference is the provider's effect on the
scheduler, the triggerer and their heartbeats. It needs PostgreSQL, Redis and Chromium from Debian's packages.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
from serving import table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), *(str(HERE.parent / "tests" / folder) for folder in ("system", "support"))]
from browser import CHROMIUM, DRIVER, browser  # noqa: E402
from production import ProductionAirflow  # noqa: E402
from servers import are_installed  # noqa: E402
from statsd_server import StatsdServer  # noqa: E402

from airflow_ee_provider.emulator import Emulator  # noqa: E402
from airflow_ee_provider.emulator.operations import Behaviour  # noqa: E402
from airflow_ee_provider.emulator.service import Service  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAGS = 200
#: In seconds: the length of a measurement and of an export, and the time between two samples; and the time between the
#: two runs of a DAG.
LASTS = float(os.environ.get("SECONDS", "1800"))
RUNS, LOOK_EVERY = LASTS / 4, 5.0
EVERY = LASTS / 2 + 60
BROWSERS = 3
#: The capacity of the triggerer. Airflow's default is 1,000 triggers.
CAPACITY = 5_000

#: The two measurements: with this package, and without.
OURS, NONE = "now", "no provider"
#: The low priorities of workers and browsers, which in production run on other machines.
WORKERS_NICE, BROWSERS_NICE = 10, 19

LOOP = "scheduler.scheduler_loop_duration"


class Timings(StatsdServer):
    """Receives Airflow's metrics of the scheduler's loop."""

    def milliseconds(self) -> list[float]:
        """Return how long each of the scheduler's loops took."""
        values = (line.split(f".{LOOP}:")[1] for line in list(self._lines) if f".{LOOP}:" in line)
        return [float(value.split("|")[0]) for value in values]


class CompanyAirflow(ProductionAirflow):
    """One worker and one triggerer, with Airflow's own settings.

    :param programs: the environment's folder with the program ``airflow``.
    """

    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        name: command for name, command in ProductionAirflow.parts.items() if not name.endswith("-2")
    }

    def __init__(self, home: Path, programs: Path, environment: Mapping[str, str]) -> None:
        super().__init__(home, HERE / "company_dags", environment)
        self._airflow = programs / "airflow"
        self.environment["PATH"] = f"{programs}{os.pathsep}{self.environment['PATH']}"

    def start(self, part: str) -> None:
        """Start a part; workers get a low priority, because in production they run on other machines."""
        super().start(part)
        if part.startswith("worker-"):
            give_way(self._started[-1][1].pid, WORKERS_NICE)

    def look(self, question: str) -> list[Any]:
        """Query its database."""
        import psycopg2

        address = self.database.url.replace("postgresql+psycopg2", "postgresql")
        with psycopg2.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()

    def seconds_used(self) -> dict[str, float]:
        """Return the processor time that each of its parts, and the database, have used."""
        found: dict[str, float] = {}
        for part in self.parts:
            if not part.startswith("worker-"):
                found[part.removesuffix("-1")] = sum(map(_used, self.processes_of(part, with_tasks=True)))
        database = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "postgres"]
        return {**found, "PostgreSQL": sum(map(_used, database))}


def give_way(process_id: int, nice: int) -> None:
    """Lower the priority of a session's processes; only Linux supports it."""
    with suppress(OSError):
        Path(f"/proc/{process_id}/autogroup").write_text(str(nice), encoding="utf-8")


def _used(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


@contextmanager
def programs(whose: str) -> Iterator[Path]:
    """Yield the folder of an environment's programs: of this one, or of a copy without this package."""
    own = Path(sys.executable).parent
    if whose == OURS:
        yield own
        return
    copy = Path(tempfile.mkdtemp(dir=own.parents[1], prefix=".venv-without-")) / "venv"
    try:
        shutil.copytree(own.parent, copy, symlinks=True, copy_function=os.link)
        for found in copy.glob("lib/*/site-packages/*airflow_ee_provider*"):
            found.unlink() if found.is_file() else shutil.rmtree(found)
        program = copy / "bin" / "airflow"
        program.unlink()
        program.write_text(f"#!{copy}/bin/python\nfrom airflow.__main__ import main\nmain()\n", encoding="utf-8")
        program.chmod(0o755)
        yield copy / "bin"
    finally:
        shutil.rmtree(copy.parent)


class Seen:
    """Samples of an Airflow."""

    def __init__(self) -> None:
        self.beats: dict[str, set[float]] = defaultdict(set)
        self.most_deferred = 0
        self.states: dict[str, int] = {}

    def look(self, airflow: CompanyAirflow) -> None:
        """Take a sample."""
        for part, beat in airflow.look("select job_type, extract(epoch from latest_heartbeat) from job"):
            self.beats[part].add(float(beat))
        self.states = dict(airflow.look("select state, count(*) from task_instance where state <> '' group by state"))
        self.most_deferred = max(self.most_deferred, self.states.get("deferred", 0))

    def between_beats(self, part: str) -> list[float]:
        """Return the seconds between the heartbeats in the samples."""
        beats = sorted(self.beats[part])
        return [later - earlier for earlier, later in pairwise(beats)]


def measure(whose: str) -> dict[str, float]:
    """Run one of the two measurements, and return its results."""
    service = Service(Behaviour(pending_seconds=RUNS / 2, run_seconds=RUNS / 2))
    home = Path(tempfile.mkdtemp(prefix="airflow-ee-bench-"))
    with Timings() as timings, programs(whose) as folder, Emulator(service) as emulator, ExitStack() as stack:
        environment = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(),
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__TRIGGERER__CAPACITY": str(CAPACITY),
            "COMPANY_RUNS": whose,
            "COMPANY_START": datetime.now(timezone.utc).isoformat(),
            "COMPANY_EVERY": str(EVERY),
            "COMPANY_RUN_SECONDS": str(RUNS),
            **timings.settings(),
            "PYTHONPATH": os.pathsep.join([str(HERE / "company_dags"), *([str(HERE.parent)] if whose == OURS else ())]),
        }
        airflow = stack.enter_context(CompanyAirflow(home, folder, environment))
        airflow.wait_for_dags(*(f"company_{number:03d}" for number in range(DAGS)))
        for _ in range(BROWSERS if whose == OURS else 0):
            window = stack.enter_context(browser(airflow))
            give_way(window.driver.service.process.pid, BROWSERS_NICE)
            window.open("/plugin/earth-engine")
        airflow.call("PATCH", "/dags?dag_id_pattern=company_%25", {"is_paused": False})
        found = _watch(airflow, timings)
        found["requests to Earth Engine"] = len(service.journal)
    shutil.rmtree(home, ignore_errors=True)
    return found


def _watch(airflow: CompanyAirflow, timings: Timings) -> dict[str, float]:
    seen, used, before = Seen(), airflow.seconds_used(), len(timings.milliseconds())
    ends = time.monotonic() + LASTS
    while time.monotonic() < ends:
        seen.look(airflow)
        time.sleep(LOOK_EVERY)
    loops = sorted(timings.milliseconds()[before:])
    found: dict[str, float] = {
        "the scheduler's loop, median, ms": statistics.median(loops),
        "the scheduler's loop, mean, ms": statistics.mean(loops),
        "the scheduler's loop, 95 %, ms": loops[int(0.95 * len(loops))],
        "the scheduler's loops": len(loops),
    }
    for part in ("Scheduler", "Triggerer", "DagProcessor"):
        gaps = sorted(seen.between_beats(f"{part}Job"))
        found[f"{part}: between two heartbeats, median, s"] = statistics.median(gaps)
        found[f"{part}: between two heartbeats, longest, s"] = gaps[-1]
    for part, seconds in airflow.seconds_used().items():
        found[f"{part}: processor time, s"] = seconds - used[part]
    found["the scheduler's processor time for a loop, ms"] = 1000 * found["scheduler: processor time, s"] / len(loops)
    found["tasks deferred at once, at most"] = seen.most_deferred
    found["tasks begun"] = sum(n for state, n in seen.states.items() if state not in ("scheduled", "queued"))
    found["tasks ended well"] = seen.states.get("success", 0)
    return found


def main() -> None:
    """Measure both."""
    if not (are_installed() and CHROMIUM and DRIVER):
        sys.exit("Debian's postgresql, redis-server, chromium and chromium-driver are needed.")
    results = {}
    for whose in (OURS, NONE):
        results[whose] = measure(whose)
        print(whose, results[whose], file=sys.stderr, flush=True)
    print("RESULT")
    print(
        f"{DAGS} DAGs with 15 mapped exports each, for {LASTS / 60:.0f} minutes: each runs at the beginning and after"
        f" {EVERY / 60:.0f} minutes. PostgreSQL, Celery with 16 processes, one triggerer of {CAPACITY:,} triggers"
        f", the collector, a notifier in each DAG, and the page in {BROWSERS} browsers. An export takes {RUNS / 60:.1f}"
        " minutes, and is read every 30 s. *No provider* is the same with an operator that defers to a trigger that"
        " sleeps, in an environment without this package, and without browsers. Workers and browsers get what the other"
        " parts leave of the two cores.\n"
    )
    ours, none = results[OURS], results[NONE]
    rows = [[n, f"{ours[n]:,.5g}", f"{none[n]:,.5g}", f"{ours[n] / none[n]:.2f}" if none[n] else ""] for n in ours]
    print(table(rows, "", OURS, NONE, "ratio"))


if __name__ == "__main__":
    main()
