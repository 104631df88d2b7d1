from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import NAME, ok, play
from playing import operation as payload

from airflow_ee_provider.earth_engine.model.errors import FailedPreconditionError, InvalidRequestError, TransientError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.stale import StaleCriteria, StaleOperation, list_stale_operations

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.effects import Response

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
DATE = "Tue, 24 Nov 2026 12:00:00 GMT"
STATES = ("PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "CANCELLED", "FAILED")


def page(operations: list[dict[str, Any]], date: str = DATE, **fields: Any) -> Response:
    return replace(ok({"operations": operations, **fields}), headers={"date": date})


def stale(criteria: StaleCriteria, *answers: Response, limit: int | None = None) -> list[StaleOperation]:
    played = play(list_stale_operations("p", criteria, limit), answers)
    assert played.result is not None, played.error
    return played.result


def metadata(**fields: Any) -> dict[str, Any]:
    known = {"description": "ndvi-2024", "type": "EXPORT_IMAGE", "priority": 100, "batchEecuUsageSeconds": 50}
    return known | {"createTime": "2026-11-24T02:00:00Z", "startTime": "2026-11-24T11:00:00Z"} | fields


def operation(state: str = "RUNNING", **fields: Any) -> Operation:
    return Operation.from_api(payload(state, NAME, **metadata(**fields)))


@pytest.mark.parametrize(
    ("criteria", "reason"),
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
        ({"min_eecu_seconds": 50}, "has used 50 EECU-seconds"),
        ({"min_eecu_seconds": 51}, ""),
        (
            {"description": "ndvi-*", "older_than": timedelta(hours=6)},
            "was created 10:00:00 ago, is called 'ndvi-2024'",
        ),
        ({"description": "ndvi-*", "older_than": timedelta(hours=12)}, ""),
        ({"description": "*", "keep": frozenset({OperationName.parse(NAME)}), "select_all": True}, ""),
        ({"keep": frozenset({OperationName("123456789", OperationName.parse(NAME).id)}), "select_all": True}, ""),
        (
            {
                "keep": frozenset({OperationName("earthengine-legacy", OperationName.parse(NAME).id)}),
                "select_all": True,
            },
            "",
        ),
    ],
)
def test_an_operation_is_stale_if_it_meets_every_criterion(criteria: dict[str, Any], reason: str) -> None:
    assert StaleCriteria(**criteria).reason(operation(), NOW) == reason


@pytest.mark.parametrize("state", STATES)
def test_only_pending_and_running_operations_are_stale_by_default(state: str) -> None:
    assert bool(StaleCriteria(select_all=True).reason(operation(state), NOW)) == (state in ("PENDING", "RUNNING"))


def test_operation_of_unknown_age_is_not_old() -> None:
    criteria = StaleCriteria(older_than=timedelta(0), age_since="start_time", select_all=True)

    assert not criteria.reason(operation("PENDING", startTime="1970-01-01T00:00:00Z"), NOW)


@pytest.mark.parametrize(
    ("criteria", "says"),
    [
        ({}, "select every operation of every user of the project"),
        ({"states": ("PENDING",)}, "select every operation of every user of the project"),
        ({"keep": frozenset({OperationName.parse(NAME)})}, "every user"),
        ({"description": "*"}, "every user"),
        ({"description": "**"}, "every user"),
        ({"description": "?*"}, "every user"),
        ({"description": "[!_]*"}, "every user"),
        ({"description_regex": ".*"}, "every user"),
        ({"description_regex": "."}, "every user"),
        ({"description_regex": "ndvi|"}, "every user"),
        ({"description_regex": "^"}, "every user"),
        ({"older_than": timedelta(0)}, "every user"),
        ({"max_priority": 9999}, "every user"),
        ({"min_eecu_seconds": 0}, "every user"),
        ({"description": "*", "older_than": timedelta(0), "max_priority": 9999}, "every user"),
        ({"description": "*", "states": ("PENDING", "RUNING")}, "RUNING"),
        ({"description": "*", "states": ("SUCCEEDED",)}, "SUCCEEDED"),
        ({"description": "*", "age_since": "update_time"}, "age_since"),
        ({"description_regex": "("}, "is not a regular expression"),
    ],
)
def test_criteria_that_select_every_operation_or_are_invalid_are_refused(criteria: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        StaleCriteria(**criteria)


@given(st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 59)), max_size=20), st.none() | st.integers(0, 5))
def test_oldest_operations_come_first_and_no_more_than_the_limit(
    ages: list[tuple[str, int]], limit: int | None
) -> None:
    listed = page(
        [
            payload(state, f"projects/p/operations/A{number}", **metadata(createTime=f"2026-11-24T02:{minute:02}:00Z"))
            for number, (state, minute) in enumerate(ages)
        ]
    )

    chosen = stale(StaleCriteria(description="ndvi-*"), listed, limit=limit)

    times = [one.operation.create_time for one in chosen]
    assert times == sorted(times, key=str)
    assert all(not one.operation.done for one in chosen)
    assert len(chosen) == min(sum(state in ("PENDING", "RUNNING") for state, _ in ages), 99 if limit is None else limit)


def test_age_is_measured_with_the_servers_clock_at_the_first_page() -> None:
    criteria = StaleCriteria(older_than=timedelta(hours=10))
    first = page([payload("RUNNING", **metadata(createTime="2026-11-24T01:59:59Z"))], nextPageToken="2")
    late = page([payload("RUNNING", "projects/p/operations/B", **metadata())], date="Tue, 24 Nov 2026 12:00:30 GMT")

    assert [str(one.operation.name) for one in stale(criteria, first, late)] == [NAME]


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 24 Nov 2026 25:00:00 GMT"])
def test_missing_server_date_is_an_error(date: str) -> None:
    played = play(
        list_stale_operations("p", StaleCriteria(older_than=timedelta(0), select_all=True)),
        [page([payload("RUNNING", **metadata())], date=date)],
    )

    assert isinstance(played.error, TransientError)
    assert "no date" in str(played.error)


def test_criteria_without_an_age_need_no_server_date() -> None:
    orphan = StaleCriteria(among={OperationName.parse(NAME): "is orphaned"})

    assert stale(orphan, page([payload("RUNNING", **metadata())], date="yesterday"))


@pytest.mark.parametrize("year", [2025, 2027, 9999])
def test_server_date_that_is_wrong_by_a_year_is_an_error(year: int) -> None:
    answer = page([payload("RUNNING", **metadata())], date=f"Wed, 24 Nov {year} 12:00:00 GMT")

    played = play(list_stale_operations("p", StaleCriteria(older_than=timedelta(days=1))), [answer])

    assert isinstance(played.error, FailedPreconditionError)
    assert f"Earth Engine's answer is from {year}-11-24 12:00" in str(played.error)


def test_slow_pattern_on_a_long_description_ends() -> None:
    long = payload("RUNNING", **metadata(description="a" * 100_000))

    assert stale(StaleCriteria(description_regex="a.*a.*b|^a{256}$"), page([long]))


def test_a_date_without_a_zone_is_in_utc() -> None:
    criteria = StaleCriteria(older_than=timedelta(hours=9))

    assert stale(criteria, page([payload("RUNNING", **metadata())], date="Tue, 24 Nov 2026 12:00:00 -0000"))
