"""The example DAGs, unchanged, on a real Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from matrix_cells import PROJECT
from rich.console import Console

from dev.airflow_api import PATIENCE, wait_until
from dev.demo import play

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def test_demo_shows_that_every_operation_ends_as_expected(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    assert play(airflow, emulator.service, Console(width=130), time_limit=PATIENCE)


def test_janitor_cancels_only_old_operations_with_a_matching_description(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    service = emulator.service
    old, new, theirs = (service.add(name, PROJECT, run_seconds=1e6) for name in ("airflow-a", "airflow-b", "theirs"))
    for name in (old, theirs):
        service.operations[name].created -= 13 * 3600

    run_id = airflow.trigger("example_earth_engine_janitor")
    airflow.wait_for_task("example_earth_engine_janitor", run_id, "cancel_stale_operations", "success")

    assert [service.state(name) for name in (old, new, theirs)] == ["CANCELLED", "RUNNING", "RUNNING"]


def test_run_that_ends_before_its_deadline_cancels_nothing(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    name = emulator.service.add("in time", PROJECT, run_seconds=5)

    run_id = airflow.trigger("example_earth_engine_deadline", operation_names=[name])

    wait_until(lambda: airflow.run("example_earth_engine_deadline", run_id)["state"] == "success", what="the run")
    assert emulator.service.state(name) == "SUCCEEDED"


def test_grid_of_tiles_completes_although_one_tile_fails(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    emulator.service.behave("tile-*", pending_seconds=1, run_seconds=5)
    emulator.service.behave("tile-0-0", pending_seconds=0, run_seconds=1, outcome="FAILED", message="No data there.")

    run_id = airflow.trigger("example_earth_engine_tiles")
    airflow.wait_for_task("example_earth_engine_tiles", run_id, "use", "success")

    operations = airflow.xcom("example_earth_engine_tiles", run_id, "export_tiles", "return_value")
    states = [operation["state"] for operation in operations]
    assert (len(states), states.count("SUCCEEDED"), states[0]) == (264, 263, "FAILED")
    assert airflow.task("example_earth_engine_tiles", run_id, "export_tiles")["try_number"] == 1


def test_export_over_budget_is_cancelled_with_the_other_exports_of_its_task(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    service = emulator.service
    service.behave("ndvi-*", pending_seconds=0, run_seconds=1e6, eecu_seconds=1)
    service.behave("ndvi-2023", pending_seconds=0, run_seconds=1e6, eecu_seconds=5 * 3600)

    run_id = airflow.trigger("example_earth_engine_budget")
    airflow.wait_for_task("example_earth_engine_budget", run_id, "export", "failed")

    exported = [operation for operation in service.operations.values() if operation.description.startswith("ndvi-")]
    assert [service.state(operation.name) for operation in exported] == ["CANCELLED"] * 3
