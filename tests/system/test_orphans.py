"""Orphans on the page, on the command line, and in the janitor's result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from matrix_cells import PROJECT
from orphan import DAG_ID, held_by_a_deferred_task, without_a_triggerer

from airflow_ee_provider.earth_engine.model.metrics import METRICS
from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from statsd_server import StatsdServer

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def command(airflow: StandaloneAirflow, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(  # noqa: S603
        [str(Path(sys.executable).parent / "airflow"), "earth-engine", *arguments, "--output", "json"],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
        # On Python 3.14, Airflow 3.3.2 itself writes these warnings to the standard output.
        env={**airflow.environment, "PYTHONWARNINGS": "ignore::PendingDeprecationWarning"},
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def on_the_page(airflow: StandaloneAirflow) -> dict[str, Any]:
    headers = {"Authorization": airflow.authorization}
    answer = requests.get(f"{airflow.url}/earth-engine/operations", headers=headers, timeout=30)
    return {operation["name"]: operation for operation in answer.json()["operations"]}


def test_orphan_is_listed_and_cancelled_and_needed_operations_are_not(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    emulator.service.behave("example_earth_engine_cancel_on_kill", pending_seconds=0, run_seconds=3600)
    colleagues = emulator.service.add("a colleague's", PROJECT, run_seconds=3600)
    run_id, orphan = held_by_a_deferred_task(airflow)
    _, wanted = held_by_a_deferred_task(airflow)
    airflow.wait_for_dags("cancel_orphans")

    with without_a_triggerer(airflow):
        airflow.mark_run(DAG_ID, run_id, "failed")
        wait_until(lambda: on_the_page(airflow)[orphan]["orphaned"], what="the page to call it orphaned")
        orphans = [row["name"] for row in command(airflow, "orphans")]
        assert orphan in orphans
        assert not {wanted, colleagues} & set(orphans)

        janitor = airflow.trigger("cancel_orphans")
        airflow.wait_for_task("cancel_orphans", janitor, "cancel_orphans", "success")

        cancelled = airflow.xcom("cancel_orphans", janitor, "cancel_orphans", "return_value")
        reasons = {one["name"]: one["reason"] for one in cancelled}
        assert reasons[orphan].startswith("is orphaned: example_earth_engine_cancel_on_kill.wait of ")

    states = [emulator.service.state(name) for name in (orphan, wanted, colleagues)]
    assert states == ["CANCELLED", "RUNNING", "RUNNING"]
    assert not on_the_page(airflow)[wanted]["orphaned"]


def test_real_airflow_sends_every_metric(
    airflow: StandaloneAirflow, emulator: Emulator, collected: StatsdServer
) -> None:
    """Workers, the triggerer and the API server send them; earlier tests have caused some of them."""
    emulator.service.behave("example_earth_engine_cancel_on_kill", pending_seconds=1, run_seconds=3600)
    emulator.service.fail("unavailable", method="GET", path="*/operations/*")
    run_id, name = held_by_a_deferred_task(airflow)
    emulator.service.finish(name)
    airflow.wait_for_task(DAG_ID, run_id, "wait", "success")
    on_the_page(airflow)

    wait_until(lambda: collected.names >= METRICS.keys(), what=f"{METRICS.keys() - collected.names}")
