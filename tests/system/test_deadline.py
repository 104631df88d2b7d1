"""A deadline's callback in an executor (`SyncCallback`), which Airflow tells nothing about the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from matrix_cells import PROJECT

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


def test_sync_callback_cancels_named_operations_or_logs_which_callback_to_use(
    airflow: StandaloneAirflow, emulator: Emulator
) -> None:
    airflow.wait_for_dags("deadline_sync_named", "deadline_sync_recorded")
    named, recorded = (emulator.service.add(name, PROJECT) for name in ("named", "recorded"))
    airflow.trigger("deadline_sync_named", operation_names=[named])
    airflow.trigger("deadline_sync_recorded", operation_names=[recorded])

    wait_until(lambda: emulator.service.state(named) == "CANCELLED", what="the named one's cancel")
    logs = wait_until(
        lambda: [
            text
            for path in airflow.home.rglob("*.log")
            if "Use AsyncCallback" in (text := path.read_text(encoding="utf-8", errors="replace"))
        ],
        what="what to use instead",
    )

    assert "Callback executed successfully" in logs[0].partition("Use AsyncCallback")[2]
    assert emulator.service.state(recorded) == "RUNNING"
