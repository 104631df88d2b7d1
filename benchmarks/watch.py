"""Waiting for many operations in real time: the cost, and how late their ends are noticed."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from serving import Served, emulator, table

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
#: The number of operations, and of the projects that they are spread over.
SIZES = ((100, 1), (1000, 1), (3000, 1), (10000, 4))
QUOTA = 6000  # Requests a minute, for each project.


def operations(count: int, projects: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield operations, half of which end during the measurement."""
    chance = random.Random(count)
    for number in range(count):
        project = f"demo-{number % projects}" if projects > 1 else "demo"
        run_seconds = chance.uniform(30, seconds - 40) if number % 2 else 1e6
        yield {"description": "watched", "project": project, "pending_seconds": 0, "run_seconds": run_seconds}


def start(how: str, names: Path, seconds: float, served: Served) -> subprocess.Popen[bytes]:
    """Start a process that waits."""
    served.connect()
    command = [sys.executable, str(HERE / "watching.py"), how, str(names), "--seconds", str(seconds)]
    with names.with_suffix(".log").open("w") as log:  # All logs of the tasks, as in a triggerer.
        return subprocess.Popen(command, stdout=log)


def row(how: str, count: int, projects: int, found: dict[str, Any], journal: list[dict[str, Any]]) -> list[str]:
    """Return a row of the table."""
    minutes, statuses = found["seconds"] / 60, Counter(entry["status"] for entry in journal)
    rate = len(journal) / minutes
    cut = quantiles(found["delays"], n=100)
    return [
        f"{count:,}" + (f" in {projects} projects" if projects > 1 else ""),
        "one watcher" if how == "triggers" else "one by one",
        f"{rate:,.0f}",
        f"{rate / projects / QUOTA:.1%}",
        f"{statuses[429]:,}",
        f"{found['cpu'] / found['seconds']:.1%}",
        f"{found['cpu'] / count / (minutes / 60):.2f}",
        f"{found['memory'] / count / 1024:.1f}",
        f"{cut[49]:.1f}",
        f"{cut[98]:.1f}",
        f"{found['lag'] * 1000:.0f}",
    ]


def main() -> None:
    """Run all waiting processes at the same time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--largest", type=int, default=10000)
    parser.add_argument("--only", choices=["triggers", "one_by_one"])
    options = parser.parse_args()
    seconds, rows = options.minutes * 60, []
    limits = ("--requests-per-second", "100", "--concurrent-requests", "40", "--latency", "0.02")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        waiting = []
        for count, projects in SIZES:
            if count > options.largest:
                continue
            for how in [options.only] if options.only else ["triggers", "one_by_one"]:
                # The emulator limits the requests of all projects together; Earth Engine limits those of each project.
                served = stack.enter_context(emulator(*(limits if projects == 1 else limits[-2:])))
                served.add({"project": "demo", "pending_seconds": 0, "run_seconds": 0} for _ in range(count))
                names = folder / f"{how}-{count}.json"
                names.write_text(json.dumps(served.add(operations(count, projects, seconds))), encoding="utf-8")
                waiting.append((how, count, projects, served, start(how, names, seconds, served)))
        for how, count, projects, served, process in waiting:
            process.wait()
            last = (folder / f"{how}-{count}.log").read_text(encoding="utf-8").splitlines()[-1]
            rows.append(row(how, count, projects, json.loads(last), served.journal()))
    print("RESULT")
    print(f"Waiting for {options.minutes:g} minutes at an interval of 30 s; half of the operations end in that time.\n")
    use = ("requests/min", "of the quota", "refused", "of a core", "CPU-s per operation-hour", "KiB per operation")
    print(table(rows, "operations", "how", *use, "late, median s", "99 %, s", "loop blocked, ms"))


if __name__ == "__main__":
    main()
