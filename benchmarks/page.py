"""The page in Airflow's UI with 100, 1,000 and 3,000 operations: its endpoint's responses, and the browser's times."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import requests
from serving import emulator, table

from dev.standalone import StandaloneAirflow

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "system"))
from browser import CHROMIUM, DRIVER, Browser, browser

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = (100, 1000, 3000)
REPEATED = 5


def door(airflow: StandaloneAirflow) -> tuple[float, int]:
    """Request all operations; return the seconds and the bytes of the response."""
    began = time.monotonic()
    answer = requests.get(
        f"{airflow.url}/earth-engine/operations", headers={"Authorization": airflow.authorization}, timeout=60
    )
    answer.raise_for_status()
    return time.monotonic() - began, len(answer.content)


def held(airflow: StandaloneAirflow, names: list[str]) -> None:
    """Start a task that holds the operations."""
    run_id = airflow.trigger("hold", names=names)
    airflow.wait_for_task("hold", run_id, "hold", "running")
    time.sleep(8)  # The task records them.


def painted(window: Browser, total: int) -> float:
    """Return the milliseconds from opening the page to the first row of the table."""
    began = time.monotonic()
    window.open("/plugin/earth-engine")
    window.see(f"{total:,} of ")
    return 1000 * (time.monotonic() - began)


def filtered(window: Browser) -> float:
    """Return the milliseconds that the browser takes for a letter in the filter."""
    script = """
        const field = document.querySelector('.ee-page input[type=search]'), began = performance.now();
        Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, field.value + 'x');
        field.dispatchEvent(new Event('input', {bubbles: true}));
        return performance.now() - began;
    """
    return float(window.driver.execute_script(script))


def rows(airflow: StandaloneAirflow, window: Browser, added: Iterator[list[str]]) -> Iterator[list[str]]:
    """Measure with each number of operations."""
    total = 0
    for names in added:
        held(airflow, names)
        total += len(names)
        time.sleep(6)  # The cache expires.
        first, size = door(airflow)
        again = median(door(airflow)[0] for _ in range(REPEATED))
        paint = median(painted(window, total) for _ in range(REPEATED))
        letter = filtered(window)
        yield [
            f"{total:,}",
            f"{1000 * first:.0f}",
            f"{1000 * again:.0f}",
            f"{size / 1e6:.2f}",
            f"{paint:.0f}",
            f"{letter:.0f}",
        ]


def main() -> None:
    """Boot an Airflow, and measure."""
    if not (CHROMIUM and DRIVER):
        sys.exit("Debian's chromium and chromium-driver are needed.")
    home = Path(tempfile.mkdtemp(prefix="airflow-ee-bench-"))
    with emulator() as served:
        served.connect()
        connection = {"AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"]}
        dags = Path(__file__).parent / "dags"
        with StandaloneAirflow(home, dags, connection) as airflow, browser(airflow) as window:
            airflow.wait_for_dags("hold")
            steps = [b - a for a, b in zip((0, *NUMBERS), NUMBERS, strict=False)]
            behaviour = {"pending_seconds": 0, "run_seconds": 1e6, "project": "demo"}
            measured = list(rows(airflow, window, (served.add([behaviour] * step) for step in steps)))
    print("RESULT")
    print(
        "The page's endpoint lists the project's operations and joins them with Airflow's database (SQLite here); for "
        "the next five seconds it answers from memory. *Painted*: from opening Airflow's page, including Airflow's own "
        "UI, to the complete table in Chromium. *A letter*: typing into the filter, which only the browser handles.\n"
    )
    headings = ("operations", "endpoint, ms", "from memory, ms", "MB", "painted, ms", "a letter, ms")
    print(table(measured, *headings))


if __name__ == "__main__":
    main()
