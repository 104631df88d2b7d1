"""The collector's rule, as a table: the states of a task and its run, and the decision about the task's operations."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_ee_provider.collector.decision import GONE, Facts, Verdict, decide
from airflow_ee_provider.tracking.record import Record

BEGAN = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
ALL = ("kill", "failure", "timeout")
RECORD = Record(
    ("projects/p/operations/A",),
    try_number=1,
    max_tries=2,
    run_started=BEGAN.isoformat(),
    cancel_on=ALL,
    ownership="owner",
)
FACTS = Facts("running", "running", 1, 2, BEGAN, RECORD)
NEEDED, LEFT, UNCLEAR, CANCEL = Verdict.NEEDED, Verdict.LEFT, Verdict.UNCLEAR, Verdict.CANCEL
ACTIVE = ("scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule")


@pytest.mark.parametrize(
    ("task_state", "run_state", "verdict"),
    [
        *((state, "running", NEEDED) for state in ACTIVE),
        *((state, "queued", NEEDED) for state in ACTIVE),
        # Its run has ended: marked, timed out, or with a task that has failed.
        *((state, "failed", CANCEL) for state in (*ACTIVE, None)),
        *((state, "success", CANCEL) for state in (*ACTIVE, None)),
        # Between two tries: a sibling has failed (fail_fast), or the run has timed out.
        ("skipped", "running", CANCEL),
        ("skipped", "failed", CANCEL),
        # Marked, or ended when its process could not cancel.
        ("failed", "running", CANCEL),
        ("failed", "failed", CANCEL),
        ("success", "running", CANCEL),
        ("success", "success", CANCEL),
        ("upstream_failed", "failed", CANCEL),
        ("removed", "running", CANCEL),
        (GONE, None, CANCEL),
        # Airflow's scheduler resets a task to this state that a dead scheduler has queued.
        (None, "running", UNCLEAR),
    ],
)
def test_task_and_run_state_decide_about_recorded_operations(
    task_state: str | None, run_state: str | None, verdict: Verdict
) -> None:
    assert decide(replace(FACTS, task_state=task_state, run_state=run_state)).verdict is verdict


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"task_state": None, "max_tries": 3}, CANCEL),  # Its DAG is paused, or waits behind max_active_runs.
        ({"task_state": None, "run_state": "queued", "run_started": None}, CANCEL),  # Cleared with its finished run.
        ({"task_state": "scheduled", "max_tries": 3, "try_number": 2}, CANCEL),  # It waits for a slot.
        ({"task_state": "queued", "max_tries": 3, "try_number": 2}, CANCEL),
        ({"task_state": "restarting", "max_tries": 3}, CANCEL),
        ({"task_state": "running", "max_tries": 3}, NEEDED),  # Airflow tells its process, which decides.
        ({"task_state": "scheduled", "try_number": 2}, NEEDED),  # A plain retry, which continues with them.
        ({"task_state": "scheduled"}, NEEDED),  # It resumes after its deferral.
        # Its record is deleted, as the next try has begun.
        ({"is_replaced": True, "try_number": 2}, NEEDED),
        ({"is_replaced": True, "try_number": 2, "max_tries": 3}, CANCEL),
        ({"is_replaced": True, "try_number": 2, "max_tries": 3, "task_state": "success"}, CANCEL),
        ({"is_replaced": True, "try_number": 2, "max_tries": 3, "task_state": "success", "settled_try": 2}, CANCEL),
        ({"is_replaced": True, "try_number": 2, "task_state": "failed"}, CANCEL),
        ({"is_replaced": True, "try_number": 2, "task_state": "failed", "settled_try": 2}, LEFT),
        ({"is_replaced": True, "try_number": 2, "task_state": "success", "settled_try": 2}, LEFT),
    ],
)
def test_clear_cancels_the_operations_and_retry_keeps_them(changed: dict[str, Any], verdict: Verdict) -> None:
    assert decide(replace(FACTS, **changed)).verdict is verdict


@pytest.mark.parametrize(
    ("settled_try", "recorded_by", "verdict"), [(1, 1, LEFT), (2, 2, LEFT), (1, 2, CANCEL), (None, 1, CANCEL)]
)
def test_operations_that_their_try_has_settled_are_left(
    settled_try: int | None, recorded_by: int, verdict: Verdict
) -> None:
    record = replace(RECORD, try_number=recorded_by)

    facts = replace(FACTS, task_state="failed", settled_try=settled_try, record=record, try_number=recorded_by)
    assert decide(facts).verdict is verdict


@pytest.mark.parametrize(
    ("changed", "cancel_on", "verdict"),
    [
        ({"task_state": "skipped"}, ("kill",), CANCEL),
        ({"task_state": "skipped"}, ("failure", "timeout"), LEFT),
        ({"task_state": "up_for_retry", "run_state": "failed"}, ("kill",), CANCEL),
        ({"task_state": "up_for_retry", "run_state": "failed"}, (), LEFT),
        ({"task_state": None, "max_tries": 3}, ("failure",), LEFT),
        ({"task_state": GONE}, ("failure",), LEFT),
        # Failed between two tries, or while it was deferred: a user has marked it.
        ({"task_state": "failed", "was_waiting": True}, ("kill",), CANCEL),
        ({"task_state": "failed", "was_waiting": True}, ("failure",), LEFT),
        # Failed while its process ran: by an error, or marked?
        ({"task_state": "failed"}, ("kill", "failure"), CANCEL),
        ({"task_state": "failed"}, ("kill",), UNCLEAR),
        ({"task_state": "failed"}, ("failure",), UNCLEAR),
        ({"task_state": "failed"}, (), LEFT),
    ],
)
def test_collector_cancels_only_what_the_task_itself_would_have_cancelled(
    changed: dict[str, Any], cancel_on: tuple[str, ...], verdict: Verdict
) -> None:
    facts = replace(FACTS, record=replace(RECORD, cancel_on=cancel_on), **changed)

    assert decide(facts).verdict is verdict


@pytest.mark.parametrize(
    ("task_state", "run_state", "verdict"),
    [
        ("failed", "running", CANCEL),
        ("success", "failed", CANCEL),
        ("up_for_retry", "failed", CANCEL),
        ("success", "running", LEFT),  # Another task of the run may continue with them.
        ("success", "success", LEFT),
        ("up_for_retry", "success", LEFT),
        ("running", "running", NEEDED),
        (GONE, "running", LEFT),
    ],
)
def test_operations_recorded_by_custom_code_are_cancelled_only_after_a_failure(
    task_state: str, run_state: str, verdict: Verdict
) -> None:
    record = replace(RECORD, cancel_on=None)

    assert decide(replace(FACTS, task_state=task_state, run_state=run_state, record=record)).verdict is verdict


@pytest.mark.parametrize(
    ("ownership", "task_state", "run_state", "cancel_on", "verdict"),
    [
        ("handed_off", "success", "success", ALL, LEFT),
        ("handed_off", "success", "running", ALL, LEFT),
        ("handed_off", "failed", "running", ALL, LEFT),
        ("handed_off", "success", "failed", ALL, CANCEL),
        ("handed_off", "success", "failed", ("failure", "timeout"), UNCLEAR),
        ("handed_off", "success", "failed", (), LEFT),
        ("handed_off", "success", "failed", None, CANCEL),
        ("observer", "failed", "failed", ALL, LEFT),
        ("observer", "running", "running", ALL, NEEDED),
        ("canceller", "failed", "failed", ALL, LEFT),
        ("canceller", "up_for_retry", "running", ALL, LEFT),
    ],
)
def test_foreign_operations_are_left_and_handed_off_ones_unless_their_run_has_failed(
    ownership: str, task_state: str, run_state: str, cancel_on: tuple[str, ...] | None, verdict: Verdict
) -> None:
    record = replace(RECORD, ownership=ownership, cancel_on=cancel_on)

    assert decide(replace(FACTS, task_state=task_state, run_state=run_state, record=record)).verdict is verdict


def test_reason_names_the_state_of_the_task() -> None:
    assert decide(replace(FACTS, task_state="skipped")).reason == "is skipped"
    reason = decide(replace(FACTS, task_state="up_for_retry", run_state="failed")).reason
    assert reason == "is up_for_retry, and its run is failed"
    assert decide(replace(FACTS, task_state=None, max_tries=3)).reason == "was cleared"


def test_the_start_of_a_run_is_compared_as_a_time() -> None:
    elsewhere = BEGAN.astimezone(timezone(timedelta(hours=2)))

    assert not replace(FACTS, run_started=elsewhere).was_cleared
