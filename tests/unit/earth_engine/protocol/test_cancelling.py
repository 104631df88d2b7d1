from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME, lost, ok, operation, play, refused

from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, cancel_and_confirm, request_cancels

ABC = OperationName.parse(NAME)
XYZ = OperationName("p", "XYZ")
BROKEN = [lost()] * 6


def cancel(names: list[OperationName], timeout: float = 60.0) -> Any:
    return cancel_and_confirm(names, poll_interval=5.0, timeout=timeout)


def outcomes(played: Any) -> list[str]:
    assert played.error is None
    return [result.outcome.value for result in played.result]


def test_cancel_counts_only_once_earth_engine_confirms_it() -> None:
    states = ["CANCELLING", "CANCELLING", "CANCELLED"]

    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), *(ok(operation(s)) for s in states)])

    assert outcomes(played) == ["CANCELLED"]
    assert played.sent[:2] == [f"GET {NAME}", f"POST {NAME}:cancel"]
    assert not played.requests[1].body
    assert "cancel requested; waiting for Earth Engine's confirmation" in played.notes[0].message


def test_list_with_a_long_retry_after_stops_no_cancel() -> None:
    names = [OperationName("p", f"X{number}") for number in range(25)]
    late = refused(503, **{"retry-after": "60"})

    played = play(request_cancels(names, timeout=30.0), [*[late] * 3, *[ok()] * 25])

    assert outcomes(played) == ["STILL_CANCELLING"] * 25
    assert played.sent[3:] == [f"POST {name}:cancel" for name in names]


def test_second_cancel_request_waits_no_longer_than_the_timeout() -> None:
    late, running = refused(429, **{"retry-after": "300"}), ok(operation("RUNNING"))

    played = play(cancel([ABC]), [running, ok(), *[running] * 8, late, *[running] * 9])

    assert outcomes(played) == ["STILL_CANCELLING"]
    assert sum(played.sleeps) <= 60


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_ended_operation_is_not_cancelled(state: str) -> None:
    played = play(cancel([ABC]), [ok(operation(state))])

    assert outcomes(played) == ["ALREADY_FINISHED"]
    assert played.sent == [f"GET {NAME}"]


def test_cancelling_operation_is_only_polled() -> None:
    played = play(cancel([ABC]), [ok(operation("CANCELLING")), ok(operation("CANCELLED"))])

    assert outcomes(played) == ["CANCELLED"]
    assert all(sent.startswith("GET") for sent in played.sent)


def test_an_operation_can_finish_despite_the_cancel() -> None:
    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), ok(operation("SUCCEEDED"))])

    assert outcomes(played) == ["FINISHED_DESPITE_CANCEL"]


def test_state_is_read_again_after_a_refused_cancel() -> None:
    refusal = refused(400, "FAILED_PRECONDITION")

    ended = play(cancel([ABC]), [ok(operation("RUNNING")), refusal, ok(operation("SUCCEEDED"))])
    running = play(cancel([ABC]), [ok(operation("RUNNING")), refusal, ok(operation("RUNNING"))])

    asked = [ok(operation("RUNNING")), refusal, ok(operation("CANCELLING")), ok(operation("CANCELLED"))]
    cancelling = play(cancel([ABC]), asked)

    assert outcomes(ended) == ["ALREADY_FINISHED"]
    assert outcomes(running) == ["ERROR"]
    assert outcomes(cancelling) == ["CANCELLED"]


def test_cancel_whose_response_was_lost_counts_as_cancelled() -> None:
    refusal = refused(400, "FAILED_PRECONDITION")

    played = play(cancel([ABC]), [ok(operation("RUNNING")), lost(), refusal, ok(operation("CANCELLED"))])

    assert outcomes(played) == ["CANCELLED"]


def test_operation_that_keeps_running_gets_a_second_cancel_and_is_not_reported_as_cancelled() -> None:
    running = ok(operation("RUNNING"))

    def answers() -> Any:
        yield running
        yield ok()
        yield from [running] * 9
        yield ok()
        yield from [running] * 50

    played = play(cancel([ABC], timeout=50.0), answers())

    assert outcomes(played) == ["STILL_CANCELLING"]
    assert sum(sent.endswith(":cancel") for sent in played.sent) == 2
    assert sum(played.sleeps) == 50.0


def test_one_operations_error_never_stops_the_others() -> None:
    other = operation("RUNNING", str(XYZ))
    denied = refused(403, "PERMISSION_DENIED", "Permission 'earthengine.operations.update' denied")

    played = play(
        cancel([ABC, XYZ]),
        [ok(operation("RUNNING")), ok(other), denied, ok(), ok(operation("CANCELLED", str(XYZ)))],
    )

    assert outcomes(played) == ["ERROR", "CANCELLED"]
    assert played.result is not None
    assert "earthengine.operations.update" in str(played.result[0].error)


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([refused(404, "NOT_FOUND")], "NOT_FOUND"),
        ([ok(operation("RUNNING")), refused(404, "NOT_FOUND")], "NOT_FOUND"),
        ([ok(operation("RUNNING")), refused(501, "UNIMPLEMENTED")], "ERROR"),
        ([*BROKEN, *BROKEN], "ERROR"),
    ],
)
def test_failed_cancel_has_its_own_outcome(answers: list[Any], outcome: str) -> None:
    assert outcomes(play(cancel([ABC]), answers)) == [outcome]


@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_no_wait_is_longer_than_the_remaining_time(limit: float) -> None:
    """The read of one operation gets a Retry-After of five minutes: it is cancelled without being read."""
    later = refused(429, "RESOURCE_EXHAUSTED", **{"retry-after": "300"})
    running = ok(operation("RUNNING", str(XYZ)))

    played = play(
        cancel([ABC, XYZ], timeout=limit),
        [later, running, ok(), ok(), *[later, running] * 100],
    )

    assert played.sent[2:4] == [f"POST {ABC}:cancel", f"POST {XYZ}:cancel"]
    assert outcomes(played) == ["STILL_CANCELLING"] * 2
    assert sum(played.sleeps) <= limit


def test_operation_that_cannot_be_read_or_cancelled_in_time_is_an_error() -> None:
    later = refused(429, "RESOURCE_EXHAUSTED", **{"retry-after": "300"})

    played = play(cancel([ABC], timeout=20.0), [later] * 10)

    assert outcomes(played) == ["ERROR"]
    assert "asked to wait longer" in str(played.result[0].error)  # type: ignore[index]


def test_fault_during_the_confirmation_is_ignored() -> None:
    played = play(cancel([ABC]), [ok(operation("RUNNING")), ok(), *BROKEN, ok(operation("CANCELLED"))])

    assert outcomes(played) == ["CANCELLED"]


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
def test_cancel_ends_with_any_responses_and_needs_proof_to_count_as_cancelled(answers: list[Any]) -> None:
    played = play(cancel([ABC], timeout=20.0), [*answers, *[refused(403)] * 200])

    [outcome] = outcomes(played)
    if outcome == "CANCELLED":
        assert ok(operation("CANCELLED")) in answers
    if outcome == "STILL_CANCELLING":
        assert sum(played.sleeps) >= 20.0


def test_outcomes_that_may_leave_an_operation_running_have_not_ended_it() -> None:
    assert {outcome for outcome in CancelOutcome if not outcome.has_ended} == {
        CancelOutcome.NOT_FOUND,
        CancelOutcome.STILL_CANCELLING,
        CancelOutcome.ERROR,
        CancelOutcome.WOULD_BE_CANCELLED,
    }
