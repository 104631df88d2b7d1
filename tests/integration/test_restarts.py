"""Exports that fail with a transient error are started again in the same try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

PLACES = ("worker", "triggerer")


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=1.0)
    return earth_engine_emulator.service


def fail_first(service: Service, description: str, times: int, message: str) -> None:
    """Let the first ``times`` operations with a description fail."""
    create = service._create

    def failing(project: str, kind: str, request: Any, behaviour: Any) -> Any:
        before = sum(o.description == description for o in service.operations.values())
        if request.get("description") == description and before < times:
            behaviour = {**behaviour, "run_seconds": 0.2, "outcome": "FAILED", "message": message}
        return create(project, kind, request, behaviour)

    service._create = failing  # type: ignore[method-assign]


@pytest.mark.parametrize("place", PLACES)
def test_an_export_with_a_transient_failure_is_started_again(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    fail_first(service, "second", 2, "Internal error.")

    ran = run_dag(f"decorated_several_again_in_{place}")

    assert ran.state == "success", ran.log
    assert [operation["description"] for operation in ran.result] == ["first", "second", "third"]
    assert {operation["state"] for operation in ran.result} == {"SUCCEEDED"}
    assert len(service.operations) == 5
    assert not service.requests("POST", "*:cancel")


@pytest.mark.parametrize("place", PLACES)
def test_an_export_is_started_again_at_most_max_restarts_times(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    fail_first(service, "second", 3, "Internal error.")

    ran = run_dag(f"decorated_several_again_in_{place}")

    assert ran.state == "failed"
    assert sum(operation.description == "second" for operation in service.operations.values()) == 3
    assert "1 of 3 operations did not succeed" in ran.log


@pytest.mark.parametrize("place", PLACES)
def test_an_export_that_fails_while_others_wait_to_start_is_started_again(
    service: Service, run_dag: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.0)
    fail_first(service, "tile-0", 1, "Internal error.")

    ran = run_dag(f"decorated_dozen_again_in_{place}")

    assert ran.state == "success", ran.log
    assert [operation["description"] for operation in ran.result] == [f"tile-{number}" for number in range(12)]
    assert len(service.operations) == 13


def test_an_export_with_a_permanent_failure_is_not_started_again(service: Service, run_dag: Callable[..., Ran]) -> None:
    fail_first(service, "second", 1, "User memory limit exceeded.")

    assert run_dag("decorated_several_again_in_worker").state == "failed"
    assert sum(operation.description == "second" for operation in service.operations.values()) == 1
