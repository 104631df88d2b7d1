"""The emulated service alone, without HTTP, and with a clock that the tests advance."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ee_provider.emulator.faults import ApiError
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}


@pytest.fixture
def service() -> Service:
    return Service(Behaviour(pending_seconds=10, run_seconds=100, cancel_seconds=5))


def export(service: Service, project: str = "earth-demo", **fields: Any) -> dict[str, Any]:
    return service.start(project, "image", json.dumps({**BODY, **fields}).encode())


def test_an_export_waits_runs_and_succeeds(service: Service) -> None:
    name = export(service)["name"]

    pending = service.get(name)
    service.clock.advance(60)
    running = service.get(name)
    service.clock.advance(60)
    succeeded = service.get(name)

    assert pending["metadata"]["state"] == "PENDING"
    assert pending["metadata"]["startTime"] == "1970-01-01T00:00:00Z"
    assert running["metadata"]["state"] == "RUNNING"
    assert running["metadata"]["progress"] == pytest.approx(0.5, abs=0.02)
    assert "done" not in pending
    assert "done" not in running
    assert succeeded["metadata"]["state"] == "SUCCEEDED"
    assert succeeded["done"] is True
    assert succeeded["metadata"]["destinationUris"] == ["https://console.developers.google.com/storage/browser/b/"]


def test_a_cancel_takes_a_while_and_leaves_the_operation_listed(service: Service) -> None:
    name = service.add("ndvi")
    service.cancel(name)

    assert service.state(name) == "CANCELLING"
    assert "done" not in service.get(name)
    service.clock.advance(5)
    assert service.get(name)["error"]["code"] == 1
    assert service.list("earth-demo", 0, "")["operations"][0]["name"] == name


def test_operation_can_succeed_before_its_cancel_takes_effect(service: Service) -> None:
    name = service.add("ndvi")
    service.clock.advance(108)
    service.cancel(name)
    service.clock.advance(5)

    assert service.state(name) == "SUCCEEDED"


def test_cancel_of_an_ended_operation_is_refused(service: Service) -> None:
    name = service.add("ndvi", outcome="FAILED")
    service.clock.advance(200)

    with pytest.raises(ApiError, match="already completed") as caught:
        service.cancel(name)

    assert caught.value.status == "FAILED_PRECONDITION"
    assert service.get(name)["error"] == {"code": 3, "message": "User memory limit exceeded."}


def test_a_request_id_starts_one_operation_and_refuses_another_body(service: Service) -> None:
    first = export(service, requestId="run-1")

    assert export(service, requestId="run-1")["name"] == first["name"]
    assert export(service, project="other", requestId="run-1")["name"] != first["name"]
    with pytest.raises(ApiError, match="different request"):
        export(service, requestId="run-1", description="another")
    with pytest.raises(ApiError, match="Invalid requestId"):
        export(service, requestId="run_1")
    assert len(service.operations) == 2


def test_a_full_queue_refuses_the_next_export_of_that_project() -> None:
    service = Service(queue_limit=3)
    for _ in range(3):
        export(service)

    with pytest.raises(ApiError, match=r"Too many tasks already in the queue \(3\)") as caught:
        export(service)

    assert caught.value.status == "RESOURCE_EXHAUSTED"
    assert export(service, project="other")


def test_list_has_pages_and_shows_all_users_operations_of_a_project(service: Service) -> None:
    names = [service.add("theirs") for _ in range(5)]
    service.add("elsewhere", project="other")

    first = service.list("earth-demo", 2, "")
    second = service.list("earth-demo", 2, first["nextPageToken"])
    third = service.list("earth-demo", 2, second["nextPageToken"])

    listed = [operation["name"] for page in (first, second, third) for operation in page["operations"]]
    assert listed == names[::-1]
    assert "nextPageToken" not in third
    assert service.list("empty", 0, "") == {}


def test_timestamps_vary_in_precision_as_the_real_ones_do(service: Service) -> None:
    names = [service.add("x") for _ in range(4)]

    fractions = {len(service.get(name)["metadata"]["createTime"]) - len("2026-11-24T12:59:01Z") for name in names}

    assert fractions == {0, 4, 7}


def test_behaviours_are_set_by_description_and_the_latest_match_wins(service: Service) -> None:
    service.behave("ndvi-*", attempt=3)
    service.behave("ndvi-2024", pending_seconds=0)

    assert service.get(service.add("ndvi-2024"))["metadata"]["state"] == "RUNNING"
    assert service.get(service.add("ndvi-2023"))["metadata"]["state"] == "PENDING"


def test_a_deleted_operation_is_not_found(service: Service) -> None:
    name = service.add("x")
    service.delete(name)

    with pytest.raises(ApiError, match="not found"):
        service.get(name)


def test_finish_ends_an_operation_at_once(service: Service) -> None:
    name = service.add("x", pending_seconds=0)
    service.clock.advance(5)

    service.finish(name, "FAILED")

    assert service.state(name) == "FAILED"


def test_legacy_project_finds_the_operations_of_all_projects(service: Service) -> None:
    name = service.add("x", project="p")

    legacy = f"projects/earthengine-legacy/operations/{name.rpartition('/')[2]}"
    assert service.get(legacy)["name"] == name
    service.cancel(legacy)
    assert service.state(name) == "CANCELLING"
    assert service.list("earthengine-legacy", 0, "") == {}
