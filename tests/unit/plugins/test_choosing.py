"""Which operations a response to the page has, and in which order."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.plugins.choosing import COLUMNS, Choice, Place, totals
from airflow_ee_provider.tracking.holders import HeldOperation, Holder
from airflow_ee_provider.tracking.overview import ListedOperation

NOW = datetime.now(timezone.utc)
FAILED = Holder("b_dag", "run", "task", task_state="failed", run_state="failed")
ACTIVE = Holder("a_dag", "run", "task", 3, task_state="running", run_state="running")


def listed(name: str, state: str, *holders: Holder, conn_id: str = "one", **fields: Any) -> ListedOperation:
    done = state in ("SUCCEEDED", "FAILED", "CANCELLED")
    operation = Operation(OperationName("p", name), OperationState(state), done=done, **fields)
    return ListedOperation(conn_id, HeldOperation(operation, holders))


OPERATIONS = [
    listed("A", "RUNNING", ACTIVE, description="NDVI 2024", progress=0.5, create_time=NOW - timedelta(hours=1)),
    listed("B", "RUNNING", FAILED, progress=0.1, create_time=NOW, batch_eecu_usage_seconds=7.0, attempt=2),
    listed("C", "PENDING", conn_id="two", description="ndvi 2025", create_time=NOW - timedelta(days=1), type="X"),
    listed("D", "SUCCEEDED", FAILED, batch_eecu_usage_seconds=9.0, start_time=NOW - timedelta(minutes=1), end_time=NOW),
]


def names(chosen: Any) -> str:
    return "".join(one.held.operation.name.id for one in chosen)


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (Choice(), "BACD"),
        (Choice(state="active"), "BAC"),
        (Choice(state="RUNNING"), "BA"),
        (Choice(state="no such state"), ""),
        (Choice(dag="b_dag"), "BD"),
        (Choice(conn_id="two"), "C"),
        (Choice(text=" Ndvi "), "AC"),
        (Choice(text="operations/b"), "B"),
        (Choice(orphaned=True), "B"),
        (Choice(mine=True), "A"),
        (Choice(descending=True), "DCAB"),
        (Choice(sort="state"), "CBAD"),
        (Choice(sort="description"), "BDAC"),
        (Choice(sort="type", descending=True), "CABD"),
        (Choice(sort="holder"), "CABD"),
        (Choice(sort="running", descending=True), "DABC"),
        (Choice(sort="attempt", descending=True), "BACD"),
        (Choice(sort="eecu", descending=True), "DBAC"),
    ],
)
def test_choice_filters_and_sorts_the_operations(choice: Choice, chosen: str) -> None:
    assert names(choice.choose(OPERATIONS, lambda one: ACTIVE in one.held.holders)) == chosen


@pytest.mark.parametrize(("limit", "offset", "shown"), [(None, 0, "ABCD"), (2, 0, "AB"), (2, 3, "D"), (2, 9, "")])
def test_limit_and_offset_select_the_shown_rows(limit: int | None, offset: int, shown: str) -> None:
    assert names(Choice(limit=limit, offset=offset).rows(OPERATIONS)) == shown


@pytest.mark.parametrize("sort", COLUMNS)
def test_sorting_by_each_column_accepts_unknown_values(sort: str) -> None:
    empty = [listed("Z", "STATE_UNSPECIFIED"), *OPERATIONS]

    assert len(Choice(sort=sort).choose(empty, lambda _: False)) == len(empty)


def test_place_matches_its_task_instances() -> None:
    assert Place().is_about([])
    assert Place("a_dag", "run", "task", 3).is_about([ACTIVE])
    assert not Place("a_dag", map_index=-1).is_about([ACTIVE])
    assert not Place("a_dag").is_about([])


def test_totals_begin_with_the_dag_that_has_the_most() -> None:
    assert totals(OPERATIONS) == [
        {"dag": "b_dag", "active": 1, "orphaned": 1, "eecu_seconds": 16.0},
        {"dag": "", "active": 1, "orphaned": 0, "eecu_seconds": 0},
        {"dag": "a_dag", "active": 1, "orphaned": 0, "eecu_seconds": 0},
    ]
