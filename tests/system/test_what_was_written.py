"""Runs last: all that the system tests have written, to logs and to the database, contains no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from matrix_cells import PROJECT
from tokens import TOKEN

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def test_no_token_and_no_key_is_written_anywhere(airflow: StandaloneAirflow, emulator: Emulator) -> None:
    dag_id = "example_earth_engine_export_json"
    run_id = airflow.trigger(dag_id)
    airflow.wait_for_task(dag_id, run_id, "export", "deferred")
    emulator.service.fail("unauthenticated", times=20)  # Errors are logged, too.
    airflow.mark_run(dag_id, run_id, "failed")
    airflow.wait_for_task(dag_id, run_id, "export", "failed")

    connection = json.loads(airflow.environment["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"])
    key = json.loads(connection["extra"]["keyfile_dict"])["private_key"].splitlines()[1:-1]
    written = {path: path.read_bytes() for path in airflow.home.rglob("*") if path.is_file()}

    assert sum(PROJECT.encode() in text for text in written.values()) > 3  # The search covers logs and the database.
    assert all(entry["authorized"] for entry in emulator.service.journal)
    for secret in (TOKEN, *key):
        assert not [path for path, text in written.items() if secret.encode() in text], secret[:20]
