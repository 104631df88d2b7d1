"""The log lines about ended operations, and when their failures fail the task."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
from airflow_ee_provider.exports.results import Results, lines_of

LOG = logging.getLogger("task")

#: google.rpc codes: the second one is transient.
INVALID_ARGUMENT, INTERNAL = 3, 13


def operation(number: int, code: int | None = None, *, done: bool = True, uris: tuple[str, ...] = ()) -> Any:
    payload: dict[str, Any] = {
        "name": f"projects/p/operations/{number}",
        "done": done,
        "metadata": {"state": "RUNNING", "description": f"tile-{number}", "destinationUris": list(uris)},
    }
    if code is not None:
        payload["error"] = {"code": code, "message": "No."}
    return Operation.from_api(payload).as_dict()


def test_running_operations_are_not_among_the_ended_ones() -> None:
    results = Results([operation(0), operation(1, done=False), operation(2, INTERNAL)])

    assert [one["name"].rpartition("/")[2] for one in results.ended] == ["0", "2"]
    assert [error["code"] for error in results.errors] == [INTERNAL]


def test_destination_uris_are_in_the_order_of_the_operations() -> None:
    results = Results([operation(0, uris=("gs://b/0",)), operation(1, uris=("gs://b/1", "gs://b/2"))])

    assert results.destination_uris == ["gs://b/0", "gs://b/1", "gs://b/2"]


@pytest.mark.parametrize(
    ("codes", "max_failures", "error"),
    [
        ([None, None], 0, None),
        ([None, INVALID_ARGUMENT], 1, None),
        ([None, INVALID_ARGUMENT], 0, AirflowFailException),
        ([INTERNAL, INVALID_ARGUMENT], 0, AirflowFailException),
        ([INTERNAL, None], 0, AirflowException),
    ],
)
def test_task_fails_beyond_max_failures_and_is_retried_only_after_transient_errors(
    codes: list[int | None], max_failures: int, error: type[Exception] | None
) -> None:
    results = Results([operation(number, code) for number, code in enumerate(codes)])
    raised: Exception | None = None

    try:
        results.log_and_check(len(codes), WaitOptions(max_failures=max_failures), LOG)
    except AirflowException as caught:
        raised = caught

    assert type(raised) is (error or type(None))


def test_error_lists_each_of_a_few_ended_operations() -> None:
    results = Results([operation(0), operation(1, INVALID_ARGUMENT), operation(2, done=False)])

    with pytest.raises(AirflowFailException, match=r"1 of 4 operations did not succeed:\n.*tile-0.*\n.*tile-1.*No\.$"):
        results.log_and_check(4, WaitOptions(), LOG)


def test_only_failures_among_many_operations_have_their_own_line() -> None:
    total, failure = lines_of([operation(number, INTERNAL if number == 7 else None) for number in range(100)])

    assert total.startswith("100 exports: ")
    assert "tile-7" in failure
