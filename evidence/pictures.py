"""``make pictures``: the documents' pictures of the page: light, dark and narrow.

The page shows a few hundred operations of a real Airflow.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from booting import booted, new_emulator
from browser import browser
from matrix_cells import PROJECT
from orphan import DAG_ID, held_by_a_deferred_task, without_a_triggerer

if TYPE_CHECKING:
    from airflow_ee_provider.emulator.service import Service
    from dev.standalone import StandaloneAirflow

TILES = "example_earth_engine_tiles"
PAGE = "/plugin/earth-engine"


def set_the_scene(airflow: StandaloneAirflow, service: Service) -> None:
    """Create tiles in all states, an orphan, and another user's export."""
    service.behave(pending_seconds=2, run_seconds=4000)
    service.behave("tile-?-?", pending_seconds=1, run_seconds=400)
    service.behave("tile-?-??", pending_seconds=60, run_seconds=1500)
    service.behave("tile-0-0", pending_seconds=0, run_seconds=1, outcome="FAILED", message="No data there.")
    airflow.wait_for_dags(TILES)
    for _ in range(3):
        airflow.trigger(TILES)
    run_id, _ = held_by_a_deferred_task(airflow)
    time.sleep(45)
    service.add("soil-moisture-2026", PROJECT)
    with without_a_triggerer(airflow):
        airflow.mark_run(DAG_ID, run_id, "failed")
        time.sleep(5)


def main() -> None:
    """Write the pictures into a folder."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(sys.argv[1])
    price = {"AIRFLOW__EARTH_ENGINE__EECU_HOUR_PRICE": "0.40"}
    with new_emulator() as emulator, booted(emulator, more=price) as airflow, browser(airflow) as window:
        set_the_scene(airflow, emulator.service)
        window.open(PAGE)
        window.see("orphaned")
        window.picture(folder / "page-light.png")
        window.open(PAGE, theme="dark")
        window.see("orphaned")
        window.click("//label[normalize-space()='Only orphans']/input")
        window.click("(//td//input[@type='checkbox'])[1]")
        window.click("//button[starts-with(normalize-space(), 'Cancel 1')]")
        window.see("Cancel this operation?")
        window.picture(folder / "page-dark.png")
        window.open(PAGE, width=500)
        window.see("orphaned")
        window.picture(folder / "page-narrow.png")


if __name__ == "__main__":
    main()
