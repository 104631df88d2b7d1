"""An operator without names cancels what leads to it, and nothing that its neighbours want."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture
def operations(earth_engine_emulator: Emulator) -> list[str]:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    return [earth_engine_emulator.service.add(f"x{n}") for n in range(3)]


@pytest.mark.parametrize(
    ("dag_id", "cancelled"),
    [
        ("scope_mapped_none", []),  # Unmapped, the same None skips the task.
        ("scope_group", [0]),
        ("scope_upstream", [0]),
        ("scope_setup", [0]),
    ],
)
def test_only_what_leads_to_it_is_cancelled(
    earth_engine_emulator: Emulator,
    operations: list[str],
    run_dag: Callable[..., Ran],
    dag_id: str,
    cancelled: list[int],
) -> None:
    ran = run_dag(dag_id, *operations)

    states = [earth_engine_emulator.service.state(name) for name in operations]
    assert states == ["CANCELLED" if number in cancelled else "RUNNING" for number in range(3)], ran.log
