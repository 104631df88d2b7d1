"""Exports that a function starts itself, one by one or with ``batch_starts``, compared with the official client's loop.

Each measurement is a process of its own: ``python benchmarks/loops.py WHO WAY COUNT SECONDS`` prints its seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

# Set before Airflow is imported, so that it creates a new database.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parent / "dags")

import requests
from serving import Served, emulator, table

#: What starts the exports: the official client, a task with `batch_starts`, or a task without it.
CLIENT, BATCH, ONE_BY_ONE = "client", "batch", "one by one"

#: The measurements: how the function starts exports, how many, and how many seconds a start takes.
ROWS = [("loop", 500, 0.05), ("loop", 500, 1.0), ("geemap", 200, 0.05), ("geemap", 200, 1.0)]

#: For the two with a small difference: how often they run in turns, and how many exports they start.
TURNS, FEW = 5, 200

PER_SECOND = 100


def seconds(who: str, way: str, count: int, start_seconds: float) -> float:
    """Return the seconds from the function's first line to the response to its last start."""
    began = Path(tempfile.mkdtemp()) / "began"
    os.environ.update(BEGAN=str(began), WAY=way, EXPORTS=str(count), BATCH_STARTS=str(who == BATCH))
    with emulator(
        "--pending-seconds", "1e6", "--requests-per-second", str(PER_SECOND), "--concurrent-requests", "40"
    ) as served:
        delay = {"what": "delay", "path": "*:export", "times": None, "seconds": start_seconds}
        images = {"path": "projects/*/value:compute", "answer": {"result": count}}
        requests.post(f"{served.url}/emulator/faults", json=delay, timeout=60).raise_for_status()
        if way == "geemap":
            requests.post(f"{served.url}/emulator/answers", json=images, timeout=60).raise_for_status()
        (_client if who == CLIENT else _task)(served)
        starts = [entry for entry in served.journal() if entry["path"].endswith(":export")]
        if len({entry["body"]["description"] for entry in starts}) != count:
            raise RuntimeError(f"{len(starts)} starts of {count}")
        return max(entry["time"] for entry in starts) + start_seconds - float(began.read_text(encoding="utf-8"))


def _client(served: Served) -> None:
    import ee
    from dags.loops import function
    from google.oauth2.credentials import Credentials

    ee.Initialize(credentials=Credentials(token="t"), url=served.url, project="demo")  # noqa: S106
    function()


def _task(served: Served) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    initdb()
    served.connect()
    run = DagBag().dags["loops"].test()
    if run.state != "success":
        raise RuntimeError(run.state)


def _measured(who: str, way: str, count: int, start_seconds: float) -> float:
    python = os.environ.get("PYTHON_WITH_LIBRARIES", sys.executable) if way == "geemap" else sys.executable
    command = [python, __file__, who, way, str(count), str(start_seconds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def tables() -> str:
    """Measure all, and return the text for the page."""
    rows = []
    for way, count, start_seconds in ROWS:
        theirs, mine = (_measured(who, way, count, start_seconds) for who in (CLIENT, BATCH))
        limit = count / PER_SECOND
        what = "`task.start()` in a loop" if way == "loop" else "`geemap.ee_export_image_collection_to_cloud_storage`"
        rows.append(
            [
                f"{what}, {count}, {start_seconds:g} s a start",
                f"{theirs:.1f}",
                f"{mine:.1f}",
                f"{theirs / mine:.1f}",
                f"{mine / limit:.2f}",
            ]
        )
        print(rows[-1], file=sys.stderr, flush=True)
    turns = [[_measured(who, "loop", FEW, 0.05) for who in (CLIENT, ONE_BY_ONE)] for _ in range(TURNS)]
    theirs, mine = (median(column) for column in zip(*turns, strict=True))
    ratio = median(one / client for client, one in turns)
    headings = ("what the function does", "the client", "with `batch_starts`", "times faster", "times the limit")
    return "\n".join(
        [
            "What the function starts itself, in seconds from its first line to the last answer:\n",
            table(rows, *headings),
            "",
            f"Without `batch_starts`, {FEW} starts one by one, 50 ms away, take {mine:.1f} s; with the client alone,",
            f"{theirs:.1f} s: {ratio:.2f} times as long (the median of {TURNS} turns).",
        ]
    )


if __name__ == "__main__":
    print(json.dumps(seconds(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
