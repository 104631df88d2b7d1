"""A DAG's file changes while its run is under way: what the run has started is still known."""

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
def test_what_a_run_has_started_is_known_although_its_file_changed(
    seen: dict[str, tuple[bool, str]], change: str
) -> None:
    kept, became = seen[change]

    assert kept, became
