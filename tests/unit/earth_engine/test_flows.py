from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME, lost, ok, operation, play, refused

from airflow_ee_provider.earth_engine import errors, flows
from airflow_ee_provider.earth_engine.flows import CancelOutcome
from airflow_ee_provider.earth_engine.operations import OperationName

ABC = OperationName.parse(NAME)
XYZ = OperationName("p", "XYZ")
BROKEN = [lost()] * 6


def cancel(names: list[OperationName], timeout: float = 60.0) -> Any:
    results = yield from flows.request_cancels(names)
    return (yield from flows.confirm_cancels(results, poll_interval=5.0, timeout=timeout))


def outcomes(played: Any) -> list[str]:
    assert played.error is None
    return [result.outcome.value for result in played.result]


def test_a_cancel_counts_only_once_earth_engine_says_so() -> None:
    states = ["CANCELLING", "CANCELLING", "CANCELLED"]

    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), *(ok(operation(s)) for s in states)])

    assert outcomes(played) == ["cancelled"]
    assert played.sent[:2] == [f"GET {NAME}", f"POST {NAME}:cancel"]
    assert not played.requests[1].body
    assert "counts as cancelled once Earth Engine says so" in played.notes[0].message


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_what_has_ended_is_not_cancelled_again(state: str) -> None:
    played = play(cancel([ABC]), [ok(operation(state))])

    assert outcomes(played) == ["already finished"]
    assert played.sent == [f"GET {NAME}"]


def test_what_is_cancelling_is_only_waited_for() -> None:
    played = play(cancel([ABC]), [ok(operation("CANCELLING")), ok(operation("CANCELLED"))])

    assert outcomes(played) == ["cancelled"]
    assert all(sent.startswith("GET") for sent in played.sent)


def test_an_operation_can_finish_despite_the_cancel() -> None:
    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), ok(operation("SUCCEEDED"))])

    assert outcomes(played) == ["finished despite the cancel"]


def test_a_refused_cancel_is_a_reason_to_read_the_state_again() -> None:
    refusal = refused(400, "FAILED_PRECONDITION")

    ended = play(cancel([ABC]), [ok(operation("RUNNING")), refusal, ok(operation("SUCCEEDED"))])
    running = play(cancel([ABC]), [ok(operation("RUNNING")), refusal, ok(operation("RUNNING"))])

    assert outcomes(ended) == ["already finished"]
    assert outcomes(running) == ["error"]


def test_an_operation_that_goes_on_running_is_asked_again_and_never_called_cancelled() -> None:
    running = ok(operation("RUNNING"))

    def answers() -> Any:
        yield running
        yield ok()
        yield from [running] * 6
        yield from [running, ok()]
        yield from [running] * 50

    played = play(cancel([ABC], timeout=50.0), answers())

    assert outcomes(played) == ["still cancelling"]
    assert sum(sent.endswith(":cancel") for sent in played.sent) == 2
    assert sum(played.sleeps) == 50.0


def test_one_operations_error_never_stops_the_others() -> None:
    other = operation("RUNNING", str(XYZ))
    denied = refused(403, "PERMISSION_DENIED", "Permission 'earthengine.operations.update' denied")

    played = play(
        cancel([ABC, XYZ]),
        [ok(operation("RUNNING")), denied, ok(other), ok(), ok(operation("CANCELLED", str(XYZ)))],
    )

    assert outcomes(played) == ["error", "cancelled"]
    assert played.result is not None
    assert "earthengine.operations.update" in str(played.result[0].error)


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([refused(404, "NOT_FOUND")], "not found"),
        ([ok(operation("RUNNING")), refused(404, "NOT_FOUND")], "not found"),
        ([ok(operation("RUNNING")), refused(501, "UNIMPLEMENTED")], "error"),
        (BROKEN, "error"),
    ],
)
def test_what_cannot_be_cancelled_is_said(answers: list[Any], outcome: str) -> None:
    assert outcomes(play(cancel([ABC]), answers)) == [outcome]


def test_a_fault_while_confirming_is_no_news() -> None:
    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), *BROKEN, ok(operation("CANCELLED"))])

    assert outcomes(played) == ["cancelled"]


ANSWERS = st.sampled_from(
    [
        *(ok(operation(state)) for state in ("PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "CANCELLED", "FAILED")),
        ok(),
        lost(),
        refused(404),
        refused(429),
        refused(403),
        refused(400, "FAILED_PRECONDITION"),
    ]
)


@given(st.lists(ANSWERS, max_size=30))
def test_whatever_is_answered_a_cancel_ends_and_is_not_believed_without_proof(answers: list[Any]) -> None:
    played = play(cancel([ABC], timeout=20.0), [*answers, *[refused(403)] * 200])

    [outcome] = outcomes(played)
    if outcome == "cancelled":
        assert ok(operation("CANCELLED")) in answers
    if outcome == "still cancelling":
        assert sum(played.sleeps) >= 20.0


def test_a_wait_ends_when_all_have_ended_and_notes_only_progress() -> None:
    running = ok(operation("RUNNING", progress=0.5))
    answers = [ok(operation("PENDING")), running, running, running, ok(operation("SUCCEEDED"))]

    played = play(flows.wait_for_operations([ABC], poll_interval=30.0), answers)

    assert [o.state.value for o in played.result or []] == ["SUCCEEDED"]
    assert [note.message for note in played.notes] == [
        f"{NAME}: PENDING",
        f"{NAME}: RUNNING, 50 %",
        f"{NAME}: SUCCEEDED",
    ]
    assert played.sleeps == [30.0] * 4


def test_a_wait_ends_with_the_first_failure_unless_told_otherwise() -> None:
    failed, other = ok(operation("FAILED")), ok(operation("RUNNING", str(XYZ)))
    done = ok(operation("SUCCEEDED", str(XYZ)))

    stopped = play(flows.wait_for_operations([ABC, XYZ], poll_interval=1.0), [failed, other])
    waited = play(
        flows.wait_for_operations([ABC, XYZ], poll_interval=1.0, stop_at_failure=False), [failed, other, done]
    )

    assert [o.state.value for o in stopped.result or []] == ["FAILED", "RUNNING"]
    assert [o.state.value for o in waited.result or []] == ["FAILED", "SUCCEEDED"]


def test_a_wait_survives_faults_and_stops_at_its_timeout() -> None:
    running = ok(operation("RUNNING"))

    survived = play(flows.wait_for_operations([ABC], poll_interval=1.0), [*BROKEN, ok(operation("SUCCEEDED"))])
    stopped = play(flows.wait_for_operation(ABC, poll_interval=7.0, timeout=20.0), [running] * 4)
    silent = play(flows.wait_for_operation(ABC, poll_interval=500.0, timeout=500.0), [lost()] * 100)

    assert [o.state.value for o in survived.result or []] == ["SUCCEEDED"]
    assert stopped.result is not None
    assert not stopped.result.done
    assert sum(stopped.sleeps) == 20.0
    assert isinstance(silent.error, errors.TransientError)


def test_a_permanent_error_ends_a_wait() -> None:
    played = play(flows.wait_for_operations([ABC], poll_interval=1.0), [refused(404, "NOT_FOUND")])

    assert isinstance(played.error, errors.OperationNotFoundError)


def test_a_list_follows_its_pages_and_keeps_each_operation_once() -> None:
    first = {"operations": [operation("RUNNING")], "nextPageToken": "2"}
    second = {"operations": [operation("CANCELLED"), operation("PENDING", str(XYZ))]}

    played = play(flows.list_operations("p"), [ok(first), ok(second)])

    assert [(str(o.name), o.state.value) for o in played.result or []] == [(NAME, "CANCELLED"), (str(XYZ), "PENDING")]
    assert played.requests[1].query == (("pageSize", "500"), ("pageToken", "2"))
    assert play(flows.list_operations("p"), [ok()]).result == []


def test_a_list_whose_page_repeats_is_an_error_rather_than_a_loop() -> None:
    page = ok({"operations": [operation("RUNNING")], "nextPageToken": "again"})

    assert isinstance(play(flows.list_operations("p"), [page, page]).error, errors.TransientError)


def test_an_export_is_repeated_only_with_a_request_id_and_then_byte_for_byte() -> None:
    body = {"expression": {"b": 1, "a": 2}}

    with_id = play(flows.start_export("p", "image", body, "run-1"), [lost(), ok(operation("PENDING"))])
    without = play(flows.start_export("p", "image", body), [lost()])

    assert with_id.sent == ["POST projects/p/image:export"] * 2
    assert with_id.requests[0].body == with_id.requests[1].body
    assert json.loads(with_id.requests[0].body or b"") == {**body, "requestId": "run-1"}
    assert isinstance(without.error, errors.TransientError)
    assert len(without.requests) == 1


def test_an_unknown_kind_of_export_is_refused_before_anything_is_sent() -> None:
    played = play(flows.start_export("p", "image/../x", {}), [])

    assert isinstance(played.error, errors.InvalidRequestError)
    assert played.requests == []


def test_delete_is_not_cancel() -> None:
    assert play(flows.delete_operation(ABC), [ok()]).sent == [f"DELETE {NAME}"]


def test_an_outcome_that_leaves_an_operation_running_is_not_settled() -> None:
    assert {outcome for outcome in CancelOutcome if not outcome.settled} == {
        CancelOutcome.NOT_FOUND,
        CancelOutcome.STILL_CANCELLING,
        CancelOutcome.ERROR,
    }
