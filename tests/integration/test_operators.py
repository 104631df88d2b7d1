"""The cancel operator in Airflow's own ``dag.test()``, against the emulator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

PLACES = ("worker", "triggerer")


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.5)
    return earth_engine_emulator


@pytest.mark.parametrize("place", PLACES)
def test_each_operation_is_cancelled_confirmed_and_reported(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    service = emulator.service
    running, stubborn = service.add("running"), service.add("stubborn", ignores_cancel=True)
    ended = service.add("ended", run_seconds=0)

    ran = run_dag(f"cancel_in_{place}", running, stubborn, ended, running)

    assert ran.state == "success"
    assert {outcome["name"]: (outcome["outcome"], outcome["state"]) for outcome in ran.result} == {
        running: ("CANCELLED", "CANCELLED"),
        stubborn: ("FINISHED_DESPITE_CANCEL", "SUCCEEDED"),
        ended: ("ALREADY_FINISHED", "SUCCEEDED"),
    }
    assert len(service.requests("POST", f"{running}:cancel")) == 1
    assert not service.requests("POST", f"{ended}:cancel")


@pytest.mark.parametrize("place", PLACES)
def test_an_operation_cancelled_before_is_no_error(emulator: Emulator, run_dag: Callable[..., Ran], place: str) -> None:
    name = emulator.service.add("ndvi")

    first, second = (run_dag(f"cancel_in_{place}", name) for _ in range(2))

    assert first.result[0]["outcome"] == "CANCELLED"
    assert second.state == "success"
    assert second.result[0]["outcome"] == "ALREADY_FINISHED"


@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_one_operation_is_reported_and_stops_no_other_cancel(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    service = emulator.service
    denied, running = service.add("denied"), service.add("running")
    service.fail("permission_denied", times=None, path=f"{denied}:cancel")

    ran = run_dag(f"cancel_in_{place}", denied, "projects/earth-demo/operations/UNKNOWN", running)

    assert ran.state == "failed"
    assert service.state(running) == "CANCELLED"
    assert service.state(denied) == "RUNNING"
    assert "2 of 3 Earth Engine operations could not be cancelled" in ran.log
    assert f"{denied}: Permission 'earthengine.operations.update' denied" in ran.log
    assert "roles/earthengine.writer" in ran.log
    assert "projects/earth-demo/operations/UNKNOWN: not found" in ran.log


def test_a_server_that_cannot_cancel_fails_the_task_at_once(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    name = emulator.service.add("ndvi")
    emulator.service.fail("unimplemented", times=None, path="*:cancel")

    ran = run_dag("cancel_in_worker", name)

    assert ran.state == "failed"
    assert "This server does not support the method" in ran.log
    assert "AirflowFailException" in ran.log
    assert len(emulator.service.requests("POST", f"{name}:cancel")) == 1


def test_an_unknown_operation_is_no_error_with_not_found_ok(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    ran = run_dag("cancel_not_found_ok_in_worker", "projects/earth-demo/operations/UNKNOWN")

    assert ran.state == "success"
    assert ran.result[0]["outcome"] == "NOT_FOUND"
    assert emulator.service.requests("GET", "*UNKNOWN")


def test_without_the_wait_the_outcome_is_still_cancelling(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    name = emulator.service.add("ndvi")

    ran = run_dag("cancel_and_go_in_worker", name)

    assert ran.state == "success"
    assert ran.result[0]["outcome"] == "STILL_CANCELLING"
    assert emulator.service.requests("POST", f"{name}:cancel")


def test_a_cancel_that_is_not_confirmed_in_time_fails_and_can_be_tried_again(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    name = emulator.service.add("slow", cancel_seconds=600)

    ran = run_dag("cancel_impatiently_in_worker", name)

    assert ran.state == "failed"
    assert f"{name}: still cancelling" in ran.log
    assert "AirflowFailException" not in ran.log


def test_a_task_without_operation_names_is_skipped(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    ran = run_dag("cancel_in_worker")

    assert ran.state == "skipped"
    assert not emulator.service.journal


def test_an_invalid_name_fails_the_task_before_any_request(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    name = emulator.service.add("ndvi")

    ran = run_dag("cancel_in_worker", name, "projects/earth-demo/operations/../../x")

    assert ran.state == "failed"
    assert "is not the name of an Earth Engine operation" in ran.log
    assert not emulator.service.journal


@pytest.mark.parametrize("place", PLACES)
def test_a_teardown_without_names_cancels_the_operations_of_all_tasks_of_the_run(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    service = emulator.service
    names, other = [service.add("ours") for _ in range(4)], service.add("theirs")

    ran = run_dag(f"tear_down_in_{place}", *names)

    assert ran.state == "success"
    assert sorted(outcome["name"] for outcome in ran.result) == sorted(names)
    assert [service.state(name) for name in names] == ["CANCELLED"] * 4
    assert service.state(other) == "RUNNING"


@pytest.mark.parametrize("place", PLACES)
def test_names_of_none_from_another_task_skip_the_task_and_cancel_nothing(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    assert run_dag(f"cancel_nothing_in_{place}").state == "skipped"
    assert not emulator.service.journal


@pytest.mark.parametrize("place", PLACES)
def test_the_stale_operations_operator_cancels_only_stale_operations(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    service = emulator.service
    stale, kept, other = service.add("stale-a"), service.add("stale-b"), service.add("theirs")
    ended = service.add("stale-c", run_seconds=0)

    ran = run_dag(f"tidy_in_{place}", kept)

    assert ran.state == "success"
    assert [(o["name"], o["outcome"], o["reason"]) for o in ran.result] == [(stale, "CANCELLED", "is called 'stale-a'")]
    assert [service.state(name) for name in (stale, kept, other, ended)] == [
        "CANCELLED",
        "RUNNING",
        "RUNNING",
        "SUCCEEDED",
    ]
    assert "1 of 4 operations are stale." in ran.log
    assert re.search(r"outcome +name", ran.log)


def test_the_stale_operations_operator_stops_at_its_limit(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    oldest = emulator.service.add("stale-1")
    emulator.service.clock.advance(2)
    newest = emulator.service.add("stale-2")

    ran = run_dag("tidy_one_in_worker")

    assert [outcome["name"] for outcome in ran.result] == [oldest]
    assert emulator.service.state(newest) == "RUNNING"


def test_a_dry_run_of_the_stale_operations_operator_cancels_nothing(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    name = emulator.service.add("x")
    emulator.service.clock.advance(2)

    ran = run_dag("tidy_dry_in_worker")

    assert [(o["name"], o["outcome"]) for o in ran.result] == [(name, "WOULD_BE_CANCELLED")]
    assert "would be cancelled" in ran.log
    assert not emulator.service.requests("POST")


def test_the_stale_operations_operator_refuses_to_select_every_operation(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    emulator.service.add("x")

    ran = run_dag("tidy_everything_in_worker")

    assert ran.state == "failed"
    assert "These criteria select every operation of every user of the project" in ran.log
    assert not emulator.service.journal
