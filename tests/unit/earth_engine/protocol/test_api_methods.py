from __future__ import annotations

import json
from typing import Any

import pytest
from playing import NAME, lost, ok, operation, play

from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol import api_methods
from airflow_ee_provider.earth_engine.protocol.effects import Response

ABC = OperationName.parse(NAME)
XYZ = OperationName("p", "XYZ")


def test_a_list_follows_its_pages_and_keeps_each_operation_once() -> None:
    first = {"operations": [operation("RUNNING")], "nextPageToken": "2"}
    second = {"operations": [operation("CANCELLED"), operation("PENDING", str(XYZ))]}

    played = play(api_methods.list_operations("p"), [ok(first), ok(second)])

    assert played.result
    assert [(str(o.name), o.state.value) for o in played.result.operations] == [
        (NAME, "CANCELLED"),
        (str(XYZ), "PENDING"),
    ]
    assert played.requests[1].query == (("pageSize", "500"), ("pageToken", "2"))
    assert play(api_methods.list_operations("p"), [ok()]).result == api_methods.Listing([], None)


def test_list_of_active_operations_omits_those_that_have_ended_also_between_two_pages() -> None:
    first = {"operations": [operation("RUNNING"), operation("RUNNING", str(XYZ))], "nextPageToken": "2"}
    second = {"operations": [operation("CANCELLED"), operation("SUCCEEDED", "projects/p/operations/OLD")]}

    played = play(api_methods.list_operations("p", active_only=True), [ok(first), ok(second)])

    assert played.result
    assert [str(one.name) for one in played.result.operations] == [str(XYZ)]
    assert played.result.listed == 4


def test_a_list_whose_page_repeats_is_an_error_rather_than_a_loop() -> None:
    page = ok({"operations": [operation("RUNNING")], "nextPageToken": "again"})

    assert isinstance(play(api_methods.list_operations("p"), [page, page]).error, errors.TransientError)


@pytest.mark.parametrize("answer", [{}, {"": {}}, {"name": 7}, {"name": "projects/p"}])
def test_response_without_an_operation_is_an_error_that_names_the_requested_one(answer: dict[str, Any]) -> None:
    for flow, subject in (
        (api_methods.get_operation(OperationName.parse(NAME)), NAME),
        (api_methods.start_export("p", "image", {}, "id"), "projects/p"),
    ):
        played = play(flow, [ok(answer)])

        assert isinstance(played.error, errors.InvalidOperationNameError)
        assert played.error.subject == subject


def test_response_about_another_operation_is_an_error() -> None:
    other = play(api_methods.get_operation(ABC), [ok(operation("RUNNING", str(XYZ)))])
    foreign = play(api_methods.get_operation(ABC), [ok(operation("RUNNING", "projects/theirs/operations/ABC"))])

    assert isinstance(other.error, errors.TransientError)
    assert "another operation, projects/p/operations/XYZ" in str(other.error)
    assert foreign.error
    assert foreign.error.permanent  # A retry would get the same response.
    assert "another project, projects/theirs/operations/ABC. Give the operation's full name" in str(foreign.error)


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("p", "p", True),
        ("p", "123", True),
        ("123", "p", True),
        ("p", "earthengine-legacy", True),
        ("earthengine-legacy", "p", True),
        ("p", "theirs", False),
        ("123", "456", False),
    ],
)
def test_operation_may_be_named_with_a_project_number_or_the_legacy_project(
    asked: str, answered: str, *, same: bool
) -> None:
    name, answer = OperationName(asked, "ABC"), operation("RUNNING", f"projects/{answered}/operations/ABC")

    got = play(api_methods.get_operation(name), [ok(answer)])
    found = play(api_methods.find_operations(asked, [name], most_pages=1), [ok({"operations": [answer]})])
    listed = play(api_methods.list_operations(asked), [ok({"operations": [answer]})])
    started = play(api_methods.start_export(asked, "image", {}), [ok(answer)])

    assert (got.result is not None, started.result is not None) == (same, same)
    assert [str(one) for one in found.result or ()] == [str(name)] * same
    assert listed.result
    assert [str(one.name) for one in listed.result.operations] == [str(name)] * same


def test_body_that_is_no_object_is_refused_before_any_request() -> None:
    played = play(api_methods.start_export("p", "image", "{broken"), [])  # type: ignore[arg-type]

    assert isinstance(played.error, errors.InvalidRequestError)
    assert str(played.error).startswith("The body of image:export is a str, not an object.")


def test_list_omits_operations_of_other_projects() -> None:
    page = {"operations": [operation("RUNNING"), operation("RUNNING", "projects/theirs/operations/X")]}

    played = play(api_methods.list_operations("p"), [ok(page)])

    assert played.result
    assert [str(o.name) for o in played.result.operations] == [NAME]
    assert "1 operations of other projects, such as projects/theirs/operations/X" in played.notes[0].message


def test_start_does_not_adopt_an_operation_of_another_project() -> None:
    played = play(
        api_methods.start_export("p", "image", {}), [ok(operation("PENDING", "projects/theirs/operations/X"))]
    )

    assert isinstance(played.error, errors.EarthEngineError)
    assert played.error.permanent
    assert "projects/theirs/operations/X" in str(played.error)


def test_an_export_is_repeated_only_with_a_request_id_and_then_byte_for_byte() -> None:
    body = {"expression": {"b": 1, "a": 2}}

    with_id = play(api_methods.start_export("p", "image", body, "run-1"), [lost(), ok(operation("PENDING"))])
    without = play(api_methods.start_export("p", "image", body), [lost()])

    assert with_id.sent == ["POST projects/p/image:export"] * 2
    assert with_id.requests[0].body == with_id.requests[1].body
    assert json.loads(with_id.requests[0].body or b"") == {**body, "requestId": "run-1"}
    assert isinstance(without.error, errors.TransientError)
    assert len(without.requests) == 1


def test_unknown_kind_of_export_is_refused_before_any_request() -> None:
    played = play(api_methods.start_export("p", "image/../x", {}), [])

    assert isinstance(played.error, errors.InvalidRequestError)
    assert played.requests == []


def test_delete_operation_sends_no_cancel() -> None:
    assert play(api_methods.delete_operation(ABC), [ok()]).sent == [f"DELETE {NAME}"]


@pytest.mark.parametrize(
    "flow",
    [
        lambda: api_methods.find_operations("p", [ABC], most_pages=1),
        lambda: api_methods.list_operations("p", active_only=True),
    ],
    ids=["find", "list"],
)
def test_list_error_is_read_as_that_of_any_request(flow: Any) -> None:
    """The error's details have metadata, as operations do, and a list's operations are read during JSON parsing."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": "earthengine.googleapis.com", "consumer": "projects/p"},
    }
    error = {"code": 403, "status": "PERMISSION_DENIED", "message": "No.", "details": [detail]}
    answer = Response(403, json.dumps({"error": error}).encode())

    listed, read = play(flow(), [answer]).error, play(api_methods.get_operation(ABC), [answer]).error

    assert isinstance(listed, errors.EarthEngineError)
    assert isinstance(read, errors.EarthEngineError)
    assert (type(listed), listed.remedy) == (type(read), read.remedy)
