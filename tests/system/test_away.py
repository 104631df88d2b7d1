"""If a user ends a run while Earth Engine does not respond, its export is cancelled once Earth Engine responds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

#: Seconds after which Airflow kills a task that it has told to end, plus a few.
KILLED_AFTER = 8.0


def test_export_that_a_killed_task_was_starting_is_cancelled(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    """The response to the start is cut off, all later requests fail, and the task is killed while it retries."""
    service = emulator.service
    service.behave("away", pending_seconds=0, run_seconds=3600, cancel_seconds=1)
    service.fail("reset_after", path="projects/away/*:export")
    service.fail("unavailable", times=None, path="projects/away/*")
    airflow.wait_for_dags("away")

    run_id = airflow.trigger("away")
    [name] = wait_until(
        lambda: [o.name for o in service.operations.values() if o.description == "away"],
        what="the export to be started",
    )
    airflow.mark_run("away", run_id, "failed")
    wait_until(lambda: _is_passed_on(airflow, run_id), what="the task to be told to end")
    time.sleep(KILLED_AFTER)
    assert service.state(name) == "RUNNING"

    service.faults = [fault for fault in service.faults if not fault.path.startswith("projects/away/")]

    wait_until(lambda: service.state(name) == "CANCELLED", what="its export to be cancelled")
    assert [o.description for o in service.operations.values()].count("away") == 1


def _is_passed_on(airflow: StandaloneAirflow, run_id: str) -> bool:
    """Whether the task's log names a background process, or says that none could be started."""
    logs = [log.read_text(encoding="utf-8") for log in airflow.home.rglob(f"*run_id={run_id}/**/*.log")]
    return "background process" in "".join(logs)
