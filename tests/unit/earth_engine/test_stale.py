from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME
from playing import operation as payload

from airflow_ee_provider.earth_engine.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.operations import Operation, OperationName
from airflow_ee_provider.earth_engine.stale import StaleCriteria, stale_operations

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
STATES = ("PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "CANCELLED", "FAILED")


def operation(state: str = "RUNNING", name: str = NAME, **metadata: Any) -> Operation:
    fields = {"description": "ndvi-2024", "type": "EXPORT_IMAGE", "priority": 100, "batchEecuUsageSeconds": 50}
    fields |= {"createTime": "2026-11-24T02:00:00Z", "startTime": "2026-11-24T11:00:00Z"}
    return Operation.from_api(payload(state, name, **{**fields, **metadata}))


@pytest.mark.parametrize(
    ("criteria", "why"),
    [
        ({"older_than": timedelta(hours=6)}, "was created 10:00:00 ago"),
        ({"older_than": timedelta(hours=12)}, ""),
        ({"older_than": timedelta(hours=6), "age_since": "start_time"}, ""),
        ({"older_than": timedelta(minutes=30), "age_since": "start_time"}, "was started 1:00:00 ago"),
        ({"description": "ndvi-*"}, "is called 'ndvi-2024'"),
        ({"description": "NDVI-*"}, ""),
        ({"description_regex": r"\d{4}$"}, "is called 'ndvi-2024'"),
        ({"description_regex": "^20"}, ""),
        ({"types": ("EXPORT_IMAGE", "EXPORT_TILES")}, "is an EXPORT_IMAGE"),
        ({"types": ("EXPORT_TILES",)}, ""),
        ({"max_priority": 100}, "has priority 100"),
        ({"max_priority": 99}, ""),
        ({"max_eecu_seconds": 49}, "has used 50 EECU-seconds"),
        ({"max_eecu_seconds": 50}, ""),
        (
            {"description": "ndvi-*", "older_than": timedelta(hours=6)},
            "was created 10:00:00 ago, is called 'ndvi-2024'",
        ),
        ({"description": "ndvi-*", "older_than": timedelta(hours=12)}, ""),
        ({"description": "*", "keep": frozenset({OperationName.parse(NAME)})}, ""),
    ],
)
def test_an_operation_is_stale_if_it_meets_every_criterion(criteria: dict[str, Any], why: str) -> None:
    assert StaleCriteria(**criteria).why(operation(), NOW) == why


@pytest.mark.parametrize("state", STATES)
def test_only_what_waits_or_runs_is_stale_by_default(state: str) -> None:
    assert bool(StaleCriteria(description="*").why(operation(state), NOW)) == (state in ("PENDING", "RUNNING"))


def test_an_operation_whose_age_is_not_known_is_not_old() -> None:
    criteria = StaleCriteria(older_than=timedelta(0), age_since="start_time")

    assert not criteria.why(operation("PENDING", startTime="1970-01-01T00:00:00Z"), NOW)


@pytest.mark.parametrize(
    ("criteria", "says"),
    [
        ({}, "every operation of every user of the project would be cancelled"),
        ({"states": ("PENDING",)}, "every operation of every user of the project would be cancelled"),
        ({"keep": frozenset({OperationName.parse(NAME)})}, "every user"),
        ({"description": "*", "states": ("PENDING", "RUNING")}, "RUNING"),
        ({"description": "*", "states": ("SUCCEEDED",)}, "SUCCEEDED"),
        ({"description": "*", "age_since": "update_time"}, "age_since"),
        ({"description_regex": "("}, "is not a regular expression"),
    ],
)
def test_criteria_that_would_do_harm_are_refused(criteria: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        StaleCriteria(**criteria)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 59)), max_size=20), st.none() | st.integers(0, 5))
def test_the_oldest_come_first_and_no_more_than_the_limit(ages: list[tuple[str, int]], limit: int | None) -> None:
    operations = [
        operation(state, f"projects/p/operations/A{number}", createTime=f"2026-11-24T02:{minute:02}:00Z")
        for number, (state, minute) in enumerate(ages)
    ]

    stale = stale_operations(operations, StaleCriteria(description="ndvi-*"), NOW, limit)

    times = [one.operation.create_time for one in stale]
    assert times == sorted(times, key=str)
    assert all(not one.operation.done for one in stale)
    assert len(stale) == min(sum(state in ("PENDING", "RUNNING") for state, _ in ages), 99 if limit is None else limit)
