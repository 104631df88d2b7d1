"""Exports that start in waves start exactly once each, although the task's worker is killed between and in waves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from concurrent.futures import Future

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def begin(airflow: StandaloneAirflow, emulator: Emulator) -> str:
    """Run the DAG to its end; return the run's id."""
    emulator.service.behave("waves_killed-*", run_seconds=5)
    airflow.wait_for_dags("waves_killed")
    run_id = airflow.trigger("waves_killed")
    wait_until(
        lambda: airflow.run("waves_killed", run_id)["state"] in ("success", "failed"), what="waves_killed to end"
    )
    return run_id


def test_each_export_starts_once_and_each_try_calls_the_function_at_most_once(
    airflow: StandaloneAirflow, emulator: Emulator, begun: dict[str, Future[str]]
) -> None:
    run_id = begun[__name__].result()

    tries = airflow.task("waves_killed", run_id, "export")["try_number"]
    calls = (airflow.home / "waves_killed_calls").read_text(encoding="utf-8").split()
    mine = [o for o in emulator.service.operations.values() if o.description.startswith("waves_killed-")]
    print(f"{tries} tries, called in {calls}, {len(mine)} exports")
    assert airflow.run("waves_killed", run_id)["state"] == "success"
    assert (airflow.home / "waves_killed_between_waves").exists()
    assert (airflow.home / "waves_killed_in_second_process").exists()
    assert tries >= 3
    assert max(Counter(calls).values()) == 1  # A try that resumes, or knows all exports, makes no call.
    assert sorted(o.description for o in mine) == [f"waves_killed-{number}" for number in range(6)]
    assert {emulator.service.state(o.name) for o in mine} == {"SUCCEEDED"}
    assert not [o for o in mine if o.cancel_requested is not None]
    assert len(airflow.xcom("waves_killed", run_id, "export", "operation_names")) == 6
