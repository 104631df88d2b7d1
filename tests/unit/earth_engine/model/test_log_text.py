"""Log texts about many operations."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_ee_provider.earth_engine.model.log_text import FEW, abbreviated, summary, time_left, truncated_lines
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, CancelResult, describe_results

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


def name(number: int) -> OperationName:
    return OperationName("p", f"A{number}")


def test_few_names_are_all_shown_and_many_are_abbreviated() -> None:
    assert abbreviated(["a", "b"]) == "a, b"
    assert abbreviated(str(number) for number in range(FEW + 1)) == "0, 1, 2 and 8 more"


def test_first_and_last_of_many_lines_are_shown() -> None:
    shown = truncated_lines([f"line {number}" for number in range(3000)])

    assert len(shown) == 51
    assert (shown[0], shown[-1]) == ("line 0", "line 2999")
    assert shown[25] == "… 2,950 more …"


def test_summary_shows_the_progress_of_all_operations() -> None:
    running = [
        Operation(
            name(number),
            OperationState.RUNNING,
            done=False,
            start_time=NOON - timedelta(hours=number),
            batch_eecu_usage_seconds=100.0,
        )
        for number in range(20)
    ]
    ended = [Operation(name(100 + number), OperationState.SUCCEEDED, done=True) for number in range(5)]

    assert summary([*running, *ended], 30) == (
        "30 operations: 20 RUNNING, 5 SUCCEEDED, 5 not read yet; 2,000 EECU-seconds; "
        "running for longest: projects/p/operations/A19, since 2026-11-23 17:00 UTC"
    )


def test_the_end_is_estimated_from_the_pace() -> None:
    assert time_left(ended=300, unfinished=2700, waited=1800.0) == "about 4 h 30 min left at this pace"


def test_many_cancels_are_counted_and_operations_that_may_still_run_are_named() -> None:
    cancelled = [CancelResult(name(number), CancelOutcome.CANCELLED) for number in range(2999)]

    lines = describe_results([*cancelled, CancelResult(name(3000), CancelOutcome.STILL_CANCELLING)])

    assert lines == [
        "3,000 operations: 2,999 cancelled, 1 still cancelling",
        "projects/p/operations/A3000: still cancelling",
    ]
