"""More exports than the project's queue or the task's ``max_active_operations`` allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.exports import queue, starter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

PLACES = ("worker", "triggerer")


@pytest.fixture
def service(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(queue, "INITIAL_RETRY_DELAY", 1.0)
    monkeypatch.setattr(starter, "FUNCTION_RETRY_DELAY", 0.3)
    monkeypatch.setattr("airflow_ee_provider.triggers.base.SETTLE", 0.0)
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=1.0)
    return earth_engine_emulator.service


def most_at_once(service: Service) -> int:
    """Return how many operations of the task ran at the same time."""
    mine = [operation for operation in service.operations.values() if operation.description.startswith("tile")]
    return max(sum(o.created <= one.created < o.ended() for o in mine) for one in mine)


@pytest.mark.parametrize("place", PLACES)
def test_a_task_waits_for_a_full_queue(service: Service, run_dag: Callable[..., Ran], place: str) -> None:
    service.queue_limit = 5

    ran = run_dag(f"decorated_dozen_in_{place}")

    assert ran.state == "success", ran.log
    assert [operation["description"] for operation in ran.result] == [f"tile-{number}" for number in range(12)]
    assert len(service.operations) == 12
    assert most_at_once(service) <= 5
    assert "The project's queue is full" in ran.log


@pytest.mark.parametrize("place", PLACES)
def test_a_task_runs_at_most_max_active_operations(service: Service, run_dag: Callable[..., Ran], place: str) -> None:
    ran = run_dag(f"decorated_dozen_frugal_in_{place}")

    assert ran.state == "success", ran.log
    assert len(service.operations) == 12
    assert most_at_once(service) == 4
    assert len(service.requests("POST", "*:export")) == 12


def test_a_task_tries_again_while_others_fill_the_queue(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.queue_limit = 3
    for number in range(3):
        service.add(f"other-{number}", run_seconds=2.0 + number)

    ran = run_dag("decorated_several_in_worker")

    assert ran.state == "success", ran.log
    assert len(service.operations) == 6


def test_a_queue_that_stays_full_fails_the_try(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.queue_limit = 3
    for number in range(3):
        service.add(f"other-{number}", run_seconds=3600)

    ran = run_dag("decorated_dozen_impatient_in_worker")

    assert ran.state == "failed"
    assert "The project's queue was full for 0.5 s (queue_timeout), so no more exports were started." in ran.log
    assert not [operation for operation in service.operations.values() if operation.cancel_requested]


def test_a_functions_own_loop_waits_for_a_full_queue(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.queue_limit = 5

    ran = run_dag("decorated_loop_in_worker")

    assert ran.state == "success", ran.log
    assert len(service.operations) == 12
    assert most_at_once(service) <= 5


@pytest.mark.parametrize("place", PLACES)
def test_no_more_exports_are_started_after_a_failure(service: Service, run_dag: Callable[..., Ran], place: str) -> None:
    service.behave("tile-0", pending_seconds=0, run_seconds=0.2, outcome="FAILED")

    ran = run_dag(f"decorated_dozen_frugal_in_{place}")

    assert ran.state == "failed"
    assert len(service.operations) < 12
    assert all(operation.done(service.clock.now()) for operation in service.operations.values())
