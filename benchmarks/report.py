"""``make bench``: run all benchmarks, and write what they print into docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("watch", "start", "many", "cancel", "reaction", "page", "collector", "imports")

INTRODUCTION = """# What it costs

Written by `make bench`, never edited by hand. The [benchmarks](../benchmarks) run against the emulator, in a process of
its own, on one machine: read the ratios, not the figures. Earth Engine allows 100 requests a second (6,000 a minute)
and 40 at once, for a project and a user.
"""

TITLES = {
    "watch": """## Waiting

*One watcher* is `EarthEngineOperationsTrigger`, one trigger for each operation: those of one connection share a poller,
which asks for few operations by name and reads many from the pages of a list. *One by one* is a coroutine for each
operation that polls it by itself, with one HTTP session for all; that is what a trigger does in other providers. *Late*
is the time from an operation's end to the trigger's event. *Loop blocked* is the longest time for which nothing else
could run: with many thousands of triggers, that is Python's garbage collector going through all objects of the process
(Airflow's own take it a tenth of a second), whatever the triggers do.
""",
    "start": "## Starting\n",
    "many": "## Thousands from one task\n",
    "cancel": "## Cancelling\n",
    "reaction": "## Reacting\n",
    "page": "## The page\n",
    "collector": "## The collector\n",
    "imports": "## Importing\n",
}


def main() -> None:
    """Run those that are named, or all, one after the other; the page's other sections stay as they are."""
    page, names = Path(sys.argv[1]), sys.argv[2:] or BENCHMARKS
    sections = {name: section for name, section in _sections(page).items() if name not in names}
    for name in names:
        print(f"{name} …", flush=True)
        result = _run(name)
        print(result, flush=True)
        heading, _, text = TITLES[name].partition("\n")
        sections[name] = "\n".join(filter(None, [f"{heading}\n\n{_where()}\n", text.lstrip("\n"), f"{result}\n"]))
        measured = [sections[name] for name in BENCHMARKS if name in sections]
        page.write_text("\n".join([INTRODUCTION, *measured]), encoding="utf-8")


def _sections(page: Path) -> dict[str, str]:
    """Return what the page has, by benchmark."""
    names = {TITLES[name].split("\n")[0]: name for name in BENCHMARKS}
    found = re.split(r"^(## .*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {names[heading]: f"{heading}\n{text}" for heading, text in zip(found[::2], found[1::2], strict=True)}


def _run(name: str) -> str:
    command = [sys.executable, str(HERE / f"{name}.py")]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # Airflow and the official client print, too: a benchmark's own words come last.
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("RESULT"))
    return "\n".join(lines[start + 1 :])


def _where() -> str:
    """Say when and on what this was measured."""
    from airflow import __version__

    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    return f"{today}, Airflow {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
