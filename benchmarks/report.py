"""``make bench``: run all benchmarks, and write what they print into two pages of docs/results."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from dev.evidence import stamp  # noqa: E402

#: Benchmarks against Earth Engine's emulator, and benchmarks of an Airflow with a large database.
FIRST = ("watch", "start", "many", "cancel", "reaction", "asked", "imports")
AT_SIZE = ("page", "size", "plans", "collector", "company")
BENCHMARKS = (*FIRST, *AT_SIZE)

INTRODUCTION = """# Performance

`make bench` writes this page. The [benchmarks](../../benchmarks) run against the emulator, which has its own process,
on one machine: compare the ratios, not the absolute figures. Earth Engine allows each project and user 100 requests a
second (6,000 a minute) and 40 concurrent requests. The page and the collector read Airflow's database:
[performance at size](performance-at-size.md).
"""

INTRODUCTION_AT_SIZE = """# Performance at size

`make bench` writes this page. The [benchmarks](../../benchmarks) measure what reads Airflow's database: the page, the
command line and the collector. Compare the ratios, not the absolute figures.
"""

TITLES = {
    "watch": """## Waiting

*One watcher* is `EarthEngineOperationsTrigger`, one trigger for each operation. The triggers of one connection share a
poller, which reads few operations by name and many operations from a list. *One by one* is a coroutine for each
operation that polls separately, with a shared HTTP session, as the triggers of other providers do. *Late* is the time
from an operation's end to the trigger's event. *Loop blocked* is the longest time in which the event loop ran nothing
else. With thousands of triggers, that is Python's garbage collector, which visits all objects of the process; it takes
a tenth of a second for Airflow's own objects.
""",
    "start": "## Starting\n",
    "many": "## Thousands from one task\n",
    "cancel": "## Cancelling\n",
    "reaction": "## Reacting\n",
    "asked": "## Requests to Airflow\n",
    "page": "## The page\n",
    "size": "## At the size of a company's Airflow\n",
    "plans": "## Three databases\n",
    "collector": "## The collector\n",
    "company": """## Half an hour of a company's Airflow

Both runs need more than the machine's two cores. A task with an export costs more than one that sleeps
([requests to Airflow](performance.md#requests-to-airflow)), so fewer tasks begin in half an hour, and the scheduler's
loop waits longer for a core: compare its processor time for a loop, and the heartbeats.
""",
    "imports": "## Importing\n",
}


def main() -> None:
    """Run the named benchmarks, or all, one after the other; the pages' other sections do not change."""
    page, names = Path(sys.argv[1]), sys.argv[2:] or BENCHMARKS
    pages = [(page, INTRODUCTION, FIRST), (page.with_name("performance-at-size.md"), INTRODUCTION_AT_SIZE, AT_SIZE)]
    sections = {name: section for one, *_ in pages for name, section in _sections(one).items() if name not in names}
    for name in names:
        print(f"{name} …", flush=True)
        result = _run(name)
        print(result, flush=True)
        heading, _, text = TITLES[name].partition("\n")
        sections[name] = "\n".join(filter(None, [f"{heading}\n\n{_where(name)}\n", text.lstrip("\n"), f"{result}\n"]))
        for one, introduction, of_page in pages:
            measured = [sections[name].strip() + "\n" for name in of_page if name in sections]
            one.write_text("\n".join([introduction, *measured]), encoding="utf-8")


def _sections(page: Path) -> dict[str, str]:
    """Return the page's sections, by benchmark."""
    if not page.exists():
        return {}
    names = {TITLES[name].split("\n")[0]: name for name in BENCHMARKS}
    found = re.split(r"^(## .*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {names[heading]: f"{heading}\n{text}" for heading, text in zip(found[::2], found[1::2], strict=True)}


def _run(name: str) -> str:
    command = [sys.executable, str(HERE / f"{name}.py")]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # Airflow and the official client also print; the benchmark's own output comes last.
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("RESULT"))
    return "\n".join(lines[start + 1 :])


def _where(name: str) -> str:
    """Return when and with what a benchmark was measured."""
    from airflow import __version__

    return f"{stamp(name)}, Airflow {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
