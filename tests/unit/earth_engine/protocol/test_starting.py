from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME, Played, lost, ok, operation, play, refused

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError, TransientError
from airflow_ee_provider.earth_engine.protocol.retries import BACKOFF
from airflow_ee_provider.earth_engine.protocol.starting import (
    Export,
    Start,
    check_export,
    start_all,
    start_once,
    with_defaults,
    workload_tag_of,
)

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
NEXT = "projects/p/operations/NEXT"


def start(tries: int, answers: list[Any]) -> Played[Any]:
    return play(start_once("p", Start("image:export", BODY, "dag/run/task/-1/0", tries=tries)), answers)


def request_ids(played: Played[Any]) -> list[str]:
    return [json.loads(request.body)["requestId"] for request in played.requests if request.body]


def test_the_first_try_starts_with_one_request() -> None:
    played = start(1, [ok(operation("PENDING"))])

    assert str(played.result.name) == NAME
    assert played.sent == ["POST projects/p/image:export"]
    [request_id] = request_ids(played)
    assert re.fullmatch(r"[A-Za-z0-9-]{1,60}", request_id)


def test_start_whose_response_was_lost_is_repeated_with_the_same_request_id() -> None:
    played = start(1, [lost(), ok(operation("PENDING"))])

    assert len(set(request_ids(played))) == 1
    assert played.requests[0].body == played.requests[1].body


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUCCEEDED"])
def test_retry_continues_with_an_active_or_succeeded_operation(state: str) -> None:
    played = start(2, [ok(operation("PENDING")), ok(operation(state))])

    assert played.result.state.value == state
    assert len(request_ids(played)) == 1


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_retry_starts_a_new_operation_after_a_failed_or_cancelled_one(state: str) -> None:
    answers = [
        ok(operation("PENDING")),
        ok(operation(state)),
        ok(operation("PENDING", NEXT)),
        ok(operation("PENDING", NEXT)),
    ]

    played = start(2, answers)

    assert str(played.result.name) == NEXT
    assert len(set(request_ids(played))) == 2
    assert played.notes[0].message.startswith(f"Starting an earlier try's operation again. {state}: ")


def test_retry_waits_for_the_end_of_a_cancelling_operation_before_the_next_start() -> None:
    played = start(
        2,
        [
            ok(operation("PENDING")),
            ok(operation("CANCELLING")),
            ok(operation("CANCELLING")),
            ok(operation("CANCELLED")),
            ok(operation("PENDING", NEXT)),
            ok(operation("RUNNING", NEXT)),
        ],
    )

    assert str(played.result.name) == NEXT


@given(st.lists(st.sampled_from(["RUNNING", "FAILED", "SUCCEEDED", "CANCELLED"]), min_size=1, max_size=5))
def test_no_two_operations_of_one_task_are_ever_active(states: list[str]) -> None:
    answers: list[Any] = []
    for number, state in enumerate(states):
        answers += [ok(operation("PENDING", f"{NAME}{number}")), ok(operation(state, f"{NAME}{number}"))]

    played = start(len(states), answers)

    started = len(request_ids(played))
    assert all(state in ("FAILED", "CANCELLED") for state in states[: started - 1])


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("volume", BODY, "not a kind of export"),
        ("image", {"fileExportOptions": {}}, "no expression"),
        ("image", {"expression": {"a": 1}}, "0 export options: none"),
        ("image", {**BODY, "assetExportOptions": {}}, "2 export options"),
        ("image", {**BODY, "priority": 10000}, "priority is 10000"),
        ("image", {**BODY, "priority": {"value": -1}}, "priority is -1"),
        ("image", {**BODY, "requestId": "a_b"}, "requestId is 'a_b'"),
        ("image", {**BODY, "requestId": "a" * 61}, "60 letters"),
    ],
)
def test_export_that_the_api_would_refuse_is_refused_before_any_request(
    kind: str, body: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(says)):
        check_export(Export(kind, body))


@pytest.mark.parametrize(
    ("dag_id", "tag"),
    [("ndvi", "ndvi"), ("NDVI.monthly (v2)", "ndvi-monthly-v2"), ("x" * 62 + "__y", "x" * 62), ("...", "")],
)
def test_workload_tag_is_made_from_the_dags_id(dag_id: str, tag: str) -> None:
    assert workload_tag_of(dag_id) == tag


@given(st.text())
def test_any_dag_id_gives_a_valid_tag_or_none(dag_id: str) -> None:
    if tag := workload_tag_of(dag_id):
        check_export(Export("image", {**BODY, "workloadTag": tag}))
        assert tag == tag.lower()


def test_exports_own_tag_and_priority_override_the_defaults() -> None:
    body = with_defaults({**BODY, "workloadTag": "own", "priority": 1}, "dag", 50)

    assert (body["workloadTag"], body["priority"]) == ("own", 1)
    assert with_defaults(BODY, None, None) == BODY
    assert with_defaults({**BODY, "workloadTag": ""}, "dag", None)["workloadTag"] == "dag"


@pytest.mark.parametrize("tag", ["-a", "a-", "a b", "a" * 64, "ä"])
def test_invalid_workload_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidRequestError, match="workloadTag"):
        check_export(Export("image", {**BODY, "workloadTag": tag}))


@given(
    st.integers(1, 3),
    st.lists(st.sampled_from([ok(operation("PENDING")), ok(operation("FAILED")), ok(), lost(), refused(403)])),
)
def test_retries_request_no_more_starts_than_tries_with_any_responses(tries: int, answers: list[Any]) -> None:
    played = start(tries, [*answers, *[refused(403)] * 200])

    asked = request_ids(played)
    assert len(set(asked)) <= tries
    assert all(asked.count(request_id) <= BACKOFF.attempts for request_id in asked)
    assert len({request.body for request in played.requests if request.body}) == len(set(asked))


def test_equal_starts_have_the_same_request_id_in_any_order_of_keys() -> None:
    first = Start("image:export", {"a": 1, "b": {"c": 2, "d": 3}, "requestId": "x"}, "task")
    again = Start("image:export", {"b": {"d": 3, "c": 2}, "a": 1, "requestId": "y"}, "task")

    assert first.request_id(0) == again.request_id(0)


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"a": 2}},
        {"method": "table:export"},
        {"identity": "another task"},
        {"project": "q"},
        {"repeat": 1},
    ],
)
def test_any_difference_makes_another_start(other: dict[str, Any]) -> None:
    same: dict[str, Any] = {"method": "image:export", "body": {"a": 1}, "identity": "task"}

    assert Start(**same).request_id(0) != Start(**{**same, **other}).request_id(0)


def test_no_operation_is_started_after_a_kill() -> None:
    played = play(start_once("p", Start("image:export", BODY, "task"), stopped=lambda: True), [])

    assert isinstance(played.error, TransientError)
    assert played.sent == []


def test_kill_during_the_repeats_of_a_start_ends_them() -> None:
    killed: list[bool] = []

    def stopped() -> bool:
        killed.append(True)
        return len(killed) > 1

    played = play(start_once("p", Start("image:export", BODY, "task"), stopped), [lost()] * 9)

    assert played.sent == ["POST projects/p/image:export"]


def test_refused_start_stops_no_other() -> None:
    starts = [Start("image:export", {**BODY, "description": text}, "task") for text in ("a", "b", "c")]
    done: list[tuple[Start, object]] = []

    play(
        start_all("p", starts, lambda _start: False, done.append),
        [ok(operation("PENDING")), refused(403, "PERMISSION_DENIED"), ok(operation("PENDING", NEXT))],
    )

    assert [start for start, _ in done] == starts
    assert [type(found).__name__ for _, found in done] == ["Operation", "PermissionDeniedError", "Operation"]


def test_repeated_start_has_the_same_request_and_another_key() -> None:
    start = Start("image:export", BODY, "task")

    assert start.repeated(0) == start
    assert start.repeated(1).asked == start.asked
    assert start.repeated(1).key != start.key
