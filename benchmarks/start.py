"""Starting many exports from one task, at a server that enforces Earth Engine's limits."""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before Airflow is imported, so that it creates a new database.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parent / "dags")

from cancel import LIMITS, PER_SECOND
from loops import tables
from serving import Served, emulator, table

if TYPE_CHECKING:
    from collections.abc import Callable


def official(served: Served, count: int) -> str:
    """Start the exports in a loop, as users do in a PythonOperator."""
    import ee
    from dags.start import exports
    from google.oauth2.credentials import Credentials

    ee.Initialize(credentials=Credentials(token="t"), url=served.url, project="demo")  # noqa: S106
    for task in exports(count):
        task.start()
    return "forgotten"


class Written:
    """Counts what a task writes into XComs."""

    def __init__(self) -> None:
        self.writes = self.bytes = 0

    def counting(self, push: Callable[..., Any]) -> Callable[..., Any]:
        """Return an `xcom_push` that counts its writes."""

        def pushed(ti: Any, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
            self.writes += 1
            self.bytes += len(json.dumps(value, default=str))
            return push(ti, key, value, *args, **kwargs)

        return pushed


def ours(served: Served, count: int) -> str:
    """Return the exports from the function of a ``@task.earth_engine``, in a real task."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from airflow.utils.db import initdb

    initdb()
    served.connect()
    os.environ["EXPORTS"] = str(count)
    written = Written()
    push = RuntimeTaskInstance.xcom_push
    RuntimeTaskInstance.xcom_push = written.counting(push)  # type: ignore[method-assign]
    try:
        run = DagBag().dags["start"].test()
    finally:
        RuntimeTaskInstance.xcom_push = push  # type: ignore[method-assign]
    return f"{run.state}; {written.writes:,} XComs of {written.bytes / 1e6:.2f} MB"


def measure(start: Callable[[Served, int], str], count: int) -> tuple[float, str, Counter[int]]:
    """Return the seconds from the first to the last start, the result, and the responses' HTTP statuses."""
    with emulator("--pending-seconds", "1e6", *LIMITS) as served:
        said = start(served, count)
        entries = [entry for entry in served.journal() if entry["path"].endswith(":export")]
        seconds = max(e["time"] for e in entries) - min(e["time"] for e in entries)
        return seconds, said, Counter(entry["status"] for entry in entries)


def main() -> None:
    """Start the exports in each way, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 3000])
    rows = []
    for count in parser.parse_args().counts:
        limit = count / PER_SECOND
        mine, said, statuses = measure(ours, count)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        theirs, _, _ = measure(official, count)
        rows.append(
            [
                f"{count:,}",
                f"{mine:.1f}",
                f"{mine / limit:.2f}",
                f"{theirs:.1f}",
                f"{theirs / mine:.1f}",
                f"{statuses[429]:,}",
                said.partition("; ")[2],
                f"{memory:.0f} MB",
            ]
        )
    print("RESULT")
    print(
        "`@task.earth_engine` with that many exports, and a loop of `task.start()` in a PythonOperator, at 50 ms "
        "latency."
    )
    print(f"*times the limit*: 1.00 is the shortest time that {PER_SECOND} requests a second allow.\n")
    headings = ("exports", "seconds", "times the limit", "a loop's", "times faster", "refused", "written", "memory")
    print(table(rows, *headings))
    print("\n" + tables())


if __name__ == "__main__":
    main()
