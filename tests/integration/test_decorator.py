"""``@task.earth_engine`` with an unmodified ``earthengine-api``, in Airflow's own ``dag.test()``."""

from __future__ import annotations

import re
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
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.3)
    return earth_engine_emulator.service


@pytest.mark.parametrize("place", PLACES)
def test_an_unstarted_export_is_started_as_the_function_describes_it(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    ran = run_dag(f"decorated_one_in_{place}")

    assert ran.state == "success", ran.log
    [request] = service.requests("POST", "*:export")
    assert request["path"] == "projects/earth-demo/image:export"
    body = request["body"]
    assert body["description"] == f"one-decorated_one_in_{place}-42"  # Templates and context variables.
    assert body["workloadTag"] == f"decorated_one_in_{place}"
    assert body["priority"] == 50
    assert body["fileExportOptions"]["cloudStorageDestination"]["bucket"] == "b"
    result = ran.result
    assert result["state"] == "SUCCEEDED"
    assert result["duration_seconds"] == pytest.approx(0.5, abs=0.01)
    assert result["destination_uris"][0].endswith(f"/b/{body['description']}")


@pytest.mark.parametrize("place", PLACES)
def test_a_task_waits_for_several_exports_and_logs_their_names(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    ran = run_dag(f"decorated_several_in_{place}")

    assert ran.state == "success", ran.log
    assert [operation["description"] for operation in ran.result] == ["first", "second", "third"]
    assert len(service.operations) == 3
    for name, operation in service.operations.items():
        assert f"SUCCEEDED: {operation.description} ({name}), " in ran.log
        assert (
            f"Started {'table' if operation.kind == 'table' else 'image'}:export '{operation.description}': {name} → "
            in ran.log
        )


@pytest.mark.parametrize("place", PLACES)
def test_the_failure_of_one_operation_cancels_the_others(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)
    service.behave("second", pending_seconds=0, run_seconds=0.5, outcome="FAILED", message="No features.")

    ran = run_dag(f"decorated_several_in_{place}")

    assert ran.state == "failed"
    assert sorted(service.state(name) for name in service.operations) == ["CANCELLED", "CANCELLED", "FAILED"]
    assert "1 of 3 operations did not succeed" in ran.log
    assert re.search(r"FAILED: second \(.+\), code 3: No features", ran.log)
    assert ran.log.count(": cancelled (CANCELLED") >= 2


@pytest.mark.parametrize("place", PLACES)
def test_the_other_operations_continue_without_cancel_on_failure(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    service.behave("second", pending_seconds=0, run_seconds=0.1, outcome="FAILED", message="No features.")

    ran = run_dag(f"decorated_several_patient_in_{place}")

    assert ran.state == "failed"
    assert sorted(service.state(name) for name in service.operations) == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    assert not service.requests("POST", "*:cancel")


@pytest.mark.parametrize("place", PLACES)
def test_a_task_succeeds_if_at_most_max_failures_operations_fail(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    service.behave("second", pending_seconds=0, run_seconds=0.1, outcome="FAILED", message="No features.")

    ran = run_dag(f"decorated_several_tolerant_in_{place}")

    assert ran.state == "success", ran.log
    assert [operation["state"] for operation in ran.result] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert not service.requests("POST", "*:cancel")


def test_a_max_failures_share_below_one_operation_allows_no_failure(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave("second", pending_seconds=0, run_seconds=0.1, outcome="FAILED", message="No features.")

    ran = run_dag("decorated_several_in_proportion_in_worker")

    assert ran.state == "failed"
    assert "1 of 3 operations did not succeed" in ran.log


@pytest.mark.parametrize("place", PLACES)
def test_an_export_that_the_function_has_started_is_not_started_again(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    ran = run_dag(f"decorated_started_in_{place}")

    assert ran.state == "success", ran.log
    assert [ran.result["name"]] == list(service.operations)
    assert len(service.requests("POST", "*:export")) == 1


def test_without_the_wait_the_operations_are_returned_as_started(service: Service, run_dag: Callable[..., Ran]) -> None:
    service.behave(pending_seconds=60)

    ran = run_dag("decorated_and_go_in_worker")

    assert ran.state == "success", ran.log
    assert [operation["state"] for operation in ran.result] == ["PENDING"] * 3


def test_a_task_without_exports_succeeds(run_dag: Callable[..., Ran], service: Service) -> None:
    ran = run_dag("decorated_nothing_in_worker")

    assert (ran.state, ran.result) == ("success", [])
    assert not service.operations


def test_no_export_is_started_if_one_of_them_is_invalid(service: Service, run_dag: Callable[..., Ran]) -> None:
    ran = run_dag("decorated_nonsense_in_worker")

    assert ran.state == "failed"
    assert "priority is 10000" in ran.log
    assert not service.requests("POST", "*:export")


def test_an_error_of_the_function_fails_the_task(run_dag: Callable[..., Ran], service: Service) -> None:
    ran = run_dag("decorated_breaks_in_worker")

    assert ran.state == "failed"
    assert "The inputs are no good." in ran.log
    assert not service.operations


def test_an_error_of_the_functions_own_request_fails_the_task(run_dag: Callable[..., Ran], service: Service) -> None:
    service.fail("not_registered", method="GET", path="*/operations", times=None)

    ran = run_dag("decorated_asks_in_worker")

    assert ran.state == "failed"
    assert "Project earth-demo is not registered to use Earth Engine" in ran.log
    assert "ee.data.listOperations()" in ran.log  # The user's own line.


def test_if_a_later_start_is_refused_the_earlier_ones_are_cancelled(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)
    service.fail("permission_denied", path="*/table:export")

    ran = run_dag("decorated_several_in_worker")

    assert ran.state == "failed"
    assert {service.state(name) for name in service.operations} == {"CANCELLED"}


def test_each_mapped_task_instance_starts_its_own_export(service: Service, dags: dict[str, Any]) -> None:
    run = dags["decorated_mapped"].test()

    assert run.state == "success"
    assert sorted(operation.description for operation in service.operations.values()) == ["north", "south"]
    assert len({request["body"]["requestId"] for request in service.requests("POST", "*:export")}) == 2


@pytest.mark.parametrize("place", PLACES)
def test_a_task_waits_for_exports_that_the_function_starts_itself(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    ran = run_dag(f"decorated_forgotten_in_{place}")

    assert ran.state == "success", ran.log
    assert ran.result is None  # The function returns nothing.
    assert [operation.description for operation in service.operations.values()] == ["forgotten-0", "forgotten-1"]
    assert [service.state(name) for name in service.operations] == ["SUCCEEDED"] * 2
    tags = {request["body"]["workloadTag"] for request in service.requests("POST", "*:export")}
    assert tags == {f"decorated_forgotten_in_{place}"}


def test_exports_that_the_function_has_started_are_cancelled_when_it_raises(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)

    ran = run_dag("decorated_raised_in_worker")

    assert ran.state == "failed"
    assert "The third one is no good." in ran.log
    assert [service.state(name) for name in service.operations] == ["CANCELLED"] * 2


def test_a_refused_start_that_the_function_swallows_fails_the_task(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    service.fail("permission_denied", path="*:export", times=1)

    ran = run_dag("decorated_swallowed_in_worker")

    assert ran.state == "failed"
    assert "image:export 'swallowed-0': projects/earth-demo: Permission" in ran.log
    assert [service.state(name) for name in service.operations] == ["CANCELLED"]


def test_the_value_has_the_shape_of_the_functions_return_value(service: Service, run_dag: Callable[..., Ran]) -> None:
    ran = run_dag("decorated_annotated_in_worker")

    assert ran.state == "success", ran.log
    assert ran.result["north"]["description"] == "north"
    assert [operation["description"] for operation in ran.result["south"]] == ["south"]
    assert len(service.operations) == 2


def test_an_operation_that_was_only_listed_is_neither_owned_nor_cancelled(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    theirs = service.add("theirs")

    ran = run_dag("decorated_listed_in_worker")

    assert ran.state == "failed"
    assert "A list contains operations of all users." in ran.log
    assert service.state(theirs) == "RUNNING"
    assert [service.state(name) for name in service.operations] == ["RUNNING", "CANCELLED"]


@pytest.mark.parametrize("place", PLACES)
def test_a_limit_can_be_a_template_and_a_duration_a_timedelta(
    service: Service, run_dag: Callable[..., Ran], place: str
) -> None:
    ran = run_dag(f"decorated_limited_in_{place}")

    assert ran.state == "success", ran.log
    assert len(service.operations) == 3


def test_a_limit_that_does_not_render_to_a_number_is_refused_before_any_request(
    service: Service, run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("decorated_mistyped_in_worker")

    assert ran.state == "failed"
    assert "max_eecu_seconds is 'many' and has to be a number" in ran.log
    assert not service.journal
