"""A cancel operator without names cancels the operations in its scope, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran


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
        ("scope_run", [0, 1, 2]),
    ],
)
def test_an_operator_without_names_cancels_only_the_operations_in_its_scope(
    earth_engine_emulator: Emulator,
    operations: list[str],
    run_dag: Callable[..., Ran],
    dag_id: str,
    cancelled: list[int],
) -> None:
    ran = run_dag(dag_id, *operations)

    states = [earth_engine_emulator.service.state(name) for name in operations]
    assert states == ["CANCELLED" if number in cancelled else "RUNNING" for number in range(3)], ran.log


@pytest.mark.parametrize("place", ["worker", "triggerer"])
def test_each_operation_is_cancelled_with_the_connection_that_started_it(
    run_dag: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Neither connection knows the other's operations, and the operator's own connection does not exist."""
    with Emulator() as one, Emulator() as other:
        for emulator, connection in ((one, "MINE"), (other, "THEIRS")):
            emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.5)
            monkeypatch.setenv(f"AIRFLOW_CONN_{connection}", emulator.airflow_connection())
        names = [one.service.add("mine"), other.service.add("theirs")]

        ran = run_dag(f"scope_two_connections_in_{place}", *names)

        assert ran.state == "success", ran.log
        assert [one.service.state(names[0]), other.service.state(names[1])] == ["CANCELLED"] * 2
        assert {outcome["outcome"] for outcome in ran.result} == {"CANCELLED"}
