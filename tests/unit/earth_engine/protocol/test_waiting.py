from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME, lost, ok, operation, play, refused

from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol import waiting

ABC = OperationName.parse(NAME)
XYZ = OperationName("p", "XYZ")
BROKEN = [lost()] * 6


def test_wait_ends_when_all_operations_have_ended_and_logs_only_progress() -> None:
    running = ok(operation("RUNNING", progress=0.5))
    answers = [ok(operation("PENDING")), running, running, running, ok(operation("SUCCEEDED"))]

    played = play(waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=30.0)), answers)

    assert [o.state.value for o in played.result or []] == ["SUCCEEDED"]
    assert [note.message for note in played.notes] == [
        f"PENDING: {NAME}",
        f"RUNNING 50 %: {NAME}",
        f"SUCCEEDED: {NAME}",
    ]
    assert played.sleeps == [5.0] * 4


def test_long_wait_polls_less_and_less_often_up_to_the_interval() -> None:
    played = play(
        waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=30.0), timeout=600.0),
        [ok(operation("RUNNING"))] * 100,
    )

    sleeps = [round(seconds, 6) for seconds in played.sleeps]
    assert sleeps[:2] == [5.0, 5.0]
    assert sorted(sleeps[:-1]) == sleeps[:-1]
    assert max(sleeps) == 30.0
    assert sum(sleeps) == pytest.approx(600.0)


def test_wait_ends_with_the_first_failure_unless_stop_at_failure_is_off() -> None:
    failed, other = ok(operation("FAILED")), ok(operation("RUNNING", str(XYZ)))
    done = ok(operation("SUCCEEDED", str(XYZ)))

    stopped = play(waiting.wait_for_operations([ABC, XYZ], waiting.WaitOptions(poll_interval=1.0)), [failed, other])
    waited = play(
        waiting.wait_for_operations([ABC, XYZ], waiting.WaitOptions(poll_interval=1.0, stop_at_failure=False)),
        [failed, other, done],
    )

    assert [o.state.value for o in stopped.result or []] == ["FAILED", "RUNNING"]
    assert [o.state.value for o in waited.result or []] == ["FAILED", "SUCCEEDED"]


def test_a_wait_survives_faults_and_stops_at_its_timeout() -> None:
    running = ok(operation("RUNNING"))

    survived = play(
        waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=1.0)),
        [*BROKEN, ok(operation("SUCCEEDED"))],
    )
    stopped = play(
        waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=7.0), timeout=20.0), [running] * 6
    )
    silent = play(
        waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=500.0), timeout=500.0), [lost()] * 1000
    )

    assert [o.state.value for o in survived.result or []] == ["SUCCEEDED"]
    assert isinstance(stopped.error, errors.OperationTimeoutError)
    assert f"1 of 1 operations did not end within 20 s; they keep running:\n  RUNNING: {NAME}" in str(stopped.error)
    assert sum(stopped.sleeps) == 20.0
    assert isinstance(silent.error, errors.OperationTimeoutError)
    assert "No answer" in str(silent.error)


def test_a_permanent_error_ends_a_wait() -> None:
    played = play(
        waiting.wait_for_operations([ABC], waiting.WaitOptions(poll_interval=1.0)), [refused(404, "NOT_FOUND")]
    )

    assert isinstance(played.error, errors.OperationNotFoundError)


def test_operation_over_the_compute_limit_is_cancelled_and_confirmed() -> None:
    thrifty = ok(operation("RUNNING", str(XYZ), batchEecuUsageSeconds=90))
    answers: list[Any] = [
        ok(operation("RUNNING", batchEecuUsageSeconds=99)),
        thrifty,
        ok(operation("RUNNING", batchEecuUsageSeconds=101.5)),
        thrifty,
        ok(operation("RUNNING")),
        ok(),
        ok(operation("CANCELLING")),
        ok(operation("CANCELLED")),
    ]

    played = play(waiting.wait_for_operations([ABC, XYZ], waiting.WaitOptions(max_eecu_seconds=100)), answers)

    assert isinstance(played.error, errors.ComputeLimitExceededError)
    assert played.error.permanent
    assert f"{NAME} has used 101.5 EECU-seconds; 100 are allowed" in str(played.error)
    assert f"{NAME}: cancelled" in str(played.error)
    assert [sent for sent in played.sent if sent.startswith("POST")] == [f"POST {NAME}:cancel"]


def test_error_says_why_a_limit_could_not_be_enforced() -> None:
    denied = refused(403, "PERMISSION_DENIED", "Permission 'earthengine.operations.update' denied")
    answers = [ok(operation("RUNNING", batchEecuUsageSeconds=2)), ok(operation("RUNNING")), denied]

    played = play(waiting.wait_for_operations([ABC], waiting.WaitOptions(max_eecu_seconds=1)), answers)

    assert "earthengine.operations.update" in str(played.error)


def test_compute_limit_does_not_apply_to_a_succeeded_operation() -> None:
    answers = [ok(operation("SUCCEEDED", batchEecuUsageSeconds=1000))]

    played = play(waiting.wait_for_operations([ABC], waiting.WaitOptions(max_eecu_seconds=1)), answers)

    assert [operation.succeeded for operation in played.result or []] == [True]


STATES = ("PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "CANCELLED", "FAILED")
ANSWERS = st.sampled_from([*(ok(operation(state)) for state in STATES), ok(), lost(), refused(404), refused(429)])


@given(st.lists(ANSWERS, max_size=30))
def test_wait_ends_with_any_responses_and_reports_success_only_with_proof(answers: list[Any]) -> None:
    limited = waiting.wait_for_operations(
        [ABC], waiting.WaitOptions(poll_interval=5.0, max_eecu_seconds=1.0), timeout=60.0
    )

    played = play(limited, [*answers, *[ok(operation("RUNNING"))] * 200])

    assert isinstance(played.error, (errors.EarthEngineError, type(None)))
    if played.result and played.result[0].succeeded:
        assert ok(operation("SUCCEEDED")) in answers


MANY = [OperationName("p", f"A{number}") for number in range(12)]


def many(*states: str, **metadata: Any) -> list[Any]:
    """Return the responses to a poll of `MANY`, one for each."""
    return [ok(operation(state, str(name), **metadata)) for name, state in zip(MANY, states, strict=True)]


def test_many_operations_are_logged_in_one_line_and_only_when_it_changes() -> None:
    first, last = many(*["PENDING"] * 12), many(*["SUCCEEDED"] * 12)
    half = many(*["RUNNING"] * 6, *["SUCCEEDED"] * 6)
    rest = [ok(operation("SUCCEEDED", str(name))) for name in MANY[:6]]
    assert len(last) == 12

    played = play(
        waiting.wait_for_operations(MANY, waiting.WaitOptions(poll_interval=30.0)),
        [*first, *first, *half, *many(*["RUNNING"] * 6, *["SUCCEEDED"] * 6)[:6], *rest],
    )

    assert [note.message for note in played.notes] == [
        "12 operations: 12 PENDING.",
        "12 operations: 6 RUNNING, 6 SUCCEEDED; about 0 h 00 min left at this pace.",
        "12 operations: 12 SUCCEEDED.",
    ]


def test_each_failure_among_many_operations_is_logged_in_full() -> None:
    played = play(
        waiting.wait_for_operations(MANY, waiting.WaitOptions(stop_at_failure=False)),
        many(*["SUCCEEDED"] * 11, "FAILED"),
    )

    failure, line = [note.message for note in played.notes]
    assert failure.startswith("FAILED: projects/p/operations/A11, error 3")
    assert line == "12 operations: 11 SUCCEEDED, 1 FAILED."


def test_total_compute_of_a_task_is_limited() -> None:
    options = waiting.WaitOptions(max_total_eecu_seconds=50.0, stop_at_failure=False)
    polled = [
        ok(operation("SUCCEEDED", NAME, batchEecuUsageSeconds=40.0)),
        ok(operation("RUNNING", str(XYZ), batchEecuUsageSeconds=20.0)),
    ]
    running, cancelled = ok(operation("RUNNING", str(XYZ))), ok(operation("CANCELLED", str(XYZ)))

    played = play(waiting.wait_for_operations([ABC, XYZ], options), [*polled, running, ok(), cancelled])

    assert isinstance(played.error, errors.ComputeLimitExceededError)
    assert (
        "The task's 2 operations have used 60 EECU-seconds together (SUCCEEDED 40, RUNNING 20); 50 are allowed "
        "(max_total_eecu_seconds). Result of the cancel: projects/p/operations/XYZ: cancelled"
    ) in str(played.error)
    assert f"POST {XYZ}:cancel" in played.sent
    assert f"POST {ABC}:cancel" not in played.sent


@pytest.mark.parametrize(
    ("most", "total", "failures", "allowed"),
    [
        (0, 3, 1, False),
        (2, 3, 2, True),
        (2, 3, 3, False),
        (0.29, 100, 29, True),
        (0.57, 100, 57, True),
        (0.58, 50, 29, True),
        (0.29, 100, 30, False),
        (0.1, 5, 1, False),
    ],
)
def test_max_failures_is_a_number_or_an_exact_share(most: float, total: int, failures: int, allowed: bool) -> None:
    assert waiting.WaitOptions(max_failures=most).allows(failures, total) is allowed
