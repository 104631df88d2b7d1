"""A connection in a secret manager that is unavailable for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tokens import TokenServer

if TYPE_CHECKING:
    from secret_manager import SecretManager

    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def test_no_export_starts_with_other_credentials_during_the_outage_and_the_next_try_succeeds(
    airflow: StandaloneAirflow, emulator: Emulator, secrets: SecretManager
) -> None:
    dag_id = "kept_in_a_secret_manager"
    emulator.service.behave("secret", run_seconds=5)
    airflow.wait_for_dags(dag_id)
    with TokenServer() as tokens:
        secrets.connections[dag_id] = tokens.airflow_connection(emulator.url, "secret-project")
        secrets.away = True
        run_id = airflow.trigger(dag_id)
        airflow.wait_for_task(dag_id, run_id, "hold", "up_for_retry")
        assert secrets.asked_in_vain
        assert not [o for o in emulator.service.operations.values() if o.description == "secret"]

        secrets.away = False
        airflow.wait_for_task(dag_id, run_id, "hold", "success")

    [started] = [o for o in emulator.service.operations.values() if o.description == "secret"]
    assert started.name.startswith("projects/secret-project/")
    logs = [path.read_text(encoding="utf-8") for path in (airflow.home / "logs" / f"dag_id={dag_id}").rglob("*=1.log")]
    assert any("is not defined, or could not be read" in log for log in logs)
