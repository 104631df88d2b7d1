"""An export is started exactly once, although its task is killed between any two steps of the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system

STEPS = ("before_the_request", "before_the_answer", "before_the_record", "after_the_record")
DYING = [
    f"dying_{kind}__{step}__{victim}"
    for kind in ("operator", "decorated")
    for step in STEPS
    for victim in ("task", "worker")
]


@pytest.fixture(scope="session")
def runs(airflow: StandaloneAirflow, emulator: Emulator) -> dict[str, str]:
    """Run all DAGs in parallel: each task is killed once, and tried again."""
    emulator.service.behave("dying*", run_seconds=15)
    airflow.wait_for_dags(*DYING)
    started = {dag_id: airflow.trigger(dag_id) for dag_id in DYING}
    ended = ("success", "failed")
    for dag_id, run_id in started.items():
        wait_until(
            lambda dag_id=dag_id, run_id=run_id: airflow.run(dag_id, run_id)["state"] in ended,  # type: ignore[misc]
            what=f"{dag_id} to end",
        )
    return started


@pytest.mark.parametrize("dag_id", DYING)
def test_one_export_is_started(
    runs: dict[str, str], airflow: StandaloneAirflow, emulator: Emulator, dag_id: str
) -> None:
    tries = airflow.task(dag_id, runs[dag_id], "export")["try_number"]
    started = [o.name for o in emulator.service.operations.values() if o.description == dag_id]
    requests = [r for r in emulator.service.requests("POST", "*:export") if r["body"]["description"] == dag_id]

    print(f"{dag_id}: {tries} tries, {len(requests)} requests, {len(started)} export")
    assert airflow.run(dag_id, runs[dag_id])["state"] == "success"
    assert tries >= 2
    assert len(started) == 1
