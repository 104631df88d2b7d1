"""A task's requests to Airflow's API server, compared with those of a task that only sleeps in the triggerer."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from serving import table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]
from airflow_ee_provider.emulator import Emulator  # noqa: E402
from airflow_ee_provider.emulator.operations import Behaviour  # noqa: E402
from airflow_ee_provider.emulator.service import Service  # noqa: E402
from dev.standalone import TASKS_API, StandaloneAirflow  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = re.compile(r"request finished.* duration_us=(\d+) .*path=/execution/")

#: DAGs of `asked_dags`, and what each task does.
TASKS = {
    "asked_nothing": "sleeps in the triggerer; no provider",
    "asked_worker": "one export, waits in its worker",
    "asked_deferred": "one export, waits in the triggerer",
    "asked_hundred": "100 exports, waits in the triggerer",
}
REPEATED = 3


def requests(airflow: StandaloneAirflow) -> list[int]:
    """Return the microseconds that the API server took for each request of a task."""
    log = (airflow.home / f"{TASKS_API}.log").read_text(encoding="utf-8")
    return [int(found) for found in REQUEST.findall(log)]


def measured(airflow: StandaloneAirflow) -> Iterator[list[str]]:
    """Run each task several times, one after the other; a first run warms up the API server."""
    airflow.wait_for_task(first := next(iter(TASKS)), airflow.trigger(first), "task", "success")
    for dag_id, what in TASKS.items():
        before = len(requests(airflow))
        for _ in range(REPEATED):
            run_id = airflow.trigger(dag_id)
            airflow.wait_for_task(dag_id, run_id, "task", "success")
        took = requests(airflow)[before:]
        yield [what, f"{len(took) / REPEATED:.0f}", f"{sum(took) / REPEATED / 1000:.0f}"]


def main() -> None:
    """Boot an Airflow, and measure."""
    home = Path(tempfile.mkdtemp(prefix="airflow-ee-bench-"))
    paths = (HERE / "asked_dags", HERE / "company_dags", HERE.parent)
    with Emulator(Service(Behaviour(pending_seconds=0, run_seconds=10))) as emulator:
        environment = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(),
            "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        with StandaloneAirflow(home, HERE / "asked_dags", environment) as airflow:
            airflow.wait_for_dags(*TASKS)
            rows = list(measured(airflow))
    print("RESULT")
    print(
        "Requests to the API server that serves the tasks, in both processes of a deferred task, and the time in which"
        " it answered them.\n"
    )
    print(table(rows, "a task", "requests", "ms"))


if __name__ == "__main__":
    main()
