"""``make bench``: run all benchmarks, and write what they print into docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("watch", "start", "cancel", "reaction", "imports")

INTRODUCTION = """# What it costs

Written by `make bench`, never edited by hand. The [benchmarks](../benchmarks) run against the emulator, in a process of
its own, on one machine: read the ratios, not the figures. Earth Engine allows 100 requests a second (6,000 a minute)
and 40 at once, for a project and a user.
"""

TITLES = {
    "watch": """## Waiting

*One watcher* is `EarthEngineOperationTrigger`, one trigger for each operation: those of one connection share a poller,
which asks for few operations by name and reads many from the pages of a list. *One by one* is a coroutine for each
operation that polls it by itself, with one HTTP session for all; that is what a trigger does in other providers. *Late*
is the time from an operation's end to the trigger's event. *Loop blocked* is the longest time for which nothing else
could run: with many thousands of triggers, that is Python's garbage collector going through all objects of the process
(Airflow's own take it a tenth of a second), whatever the triggers do.
""",
    "start": "## Starting\n",
    "cancel": "## Cancelling\n",
    "reaction": "## Reacting\n",
    "imports": "## Importing\n",
}


def main() -> None:
    """Run them one after the other."""
    page = Path(sys.argv[1])
    version = subprocess.run(
        [sys.executable, "-c", "from airflow import __version__; print(__version__)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-1]
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    parts = [INTRODUCTION]
    parts.append(f"{today}, Airflow {version}, Python {platform.python_version()}, {os.cpu_count()} cores.\n")
    for name in BENCHMARKS:
        print(f"{name} …", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py")]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        # Airflow and the official client print, too: a benchmark's own words come last.
        lines = output.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("RESULT"))
        result = "\n".join(lines[start + 1 :])
        print(result, flush=True)
        parts += [TITLES[name], result + "\n"]
    page.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
