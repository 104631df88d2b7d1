"""A DAG's file changes while its run is active: the run's operations are still known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from changed_file import CHANGES, change_files

if TYPE_CHECKING:
    from concurrent.futures import Future

    from dev.standalone import StandaloneAirflow

pytestmark = pytest.mark.system


begin = change_files


@pytest.fixture(scope="module")
def seen(airflow: StandaloneAirflow, begun: dict[str, Future[Any]]) -> dict[str, tuple[bool, str]]:
    assert airflow
    found: dict[str, tuple[bool, str]] = begun[__name__].result()
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_operations_of_a_run_are_known_after_its_file_has_changed(
    seen: dict[str, tuple[bool, str]], change: str
) -> None:
    kept, became = seen[change]

    assert kept, became
