"""A DAG's file changes while its run is under way: what the run has started is still known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from changed_file import CHANGES, change_files

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def seen(airflow: StandaloneAirflow, emulator: Emulator) -> dict[str, tuple[bool, str]]:
    return change_files(airflow, emulator)


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_run_has_started_is_known_although_its_file_changed(
    seen: dict[str, tuple[bool, str]], change: str
) -> None:
    kept, became = seen[change]

    assert kept, became
