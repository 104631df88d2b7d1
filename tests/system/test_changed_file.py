"""A DAG's file changes while its run is under way: what the run has started is still known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from changed_file import CHANGES

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_run_has_started_is_known_although_its_file_changed(
    airflow: StandaloneAirflow, emulator: Emulator, change: str
) -> None:
    airflow.wait_for_dags("changed_renamed", "changed_retries", "changed_function")

    kept, seen = CHANGES[change](airflow, emulator)

    assert kept, seen
