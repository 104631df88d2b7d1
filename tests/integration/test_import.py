"""The import operator in Airflow's own ``dag.test()``, against the emulator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

PLACES = ("worker", "triggerer")


@pytest.mark.parametrize("place", PLACES)
def test_an_import_is_started_once_and_its_result_returned(
    earth_engine_emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=0.5)
    service.fail("reset_after", path="*:import")

    ran = run_dag(f"import_in_{place}")

    assert ran.state == "success", ran.log
    operation = ran.result
    asset = f"projects/demo/assets/import_in_{place}"
    assert (operation["type"], operation["description"]) == ("INGEST_IMAGE", asset)
    assert operation["destination_uris"] == [f"https://code.earthengine.google.com/?asset={asset}"]
    assert len(service.operations) == 1
    bodies = [request["body"] for request in service.requests("POST", "*/image:import")]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert bodies[0]["overwrite"] is False


def test_overwrite_replaces_an_asset(earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=0.5)

    assert run_dag("import_again_in_worker").state == "success"
    [request] = service.requests("POST", "*/image:import")
    assert request["body"]["overwrite"] is True


@pytest.mark.parametrize("place", PLACES)
def test_a_failed_import_fails_the_task_with_earth_engines_message(
    earth_engine_emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    message = "Asset already exists."
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.2, outcome="FAILED", message=message)

    ran = run_dag(f"import_in_{place}")

    assert ran.state == "failed"
    assert re.search(f"FAILED: .+, code 3: {message}", ran.log)


def test_an_invalid_manifest_is_refused_before_any_request(
    earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("import_nothing_in_worker")

    assert ran.state == "failed"
    assert "The import's manifest has no tilesets." in ran.log
    assert not earth_engine_emulator.service.requests("POST")
