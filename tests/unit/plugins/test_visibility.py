"""Which users see an operation on the page, and which may cancel it: the rule as a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("airflow.api_fastapi", reason="Airflow 2 has no such page")

from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.plugins.visibility import Editable, Readable, as_seen
from airflow_ee_provider.tracking.holders import HeldOperation, Holder
from airflow_ee_provider.tracking.overview import ListedOperation

OWNS, WATCHES = "owner", "observer"
A, B, CONN = frozenset({"a"}), frozenset({"b"}), frozenset({"conn"})
TEAM = {"conn": "x"}


def listed(**ownership_by_dag: str) -> ListedOperation:
    data: dict[str, Any] = {"name": "projects/p/operations/A", "metadata": {"state": "RUNNING"}}
    holders = tuple(
        Holder(dag_id, "run", "task", ownership=ownership) for dag_id, ownership in ownership_by_dag.items()
    )
    return ListedOperation("conn", HeldOperation(Operation.from_api(data), holders))


@pytest.mark.parametrize(
    ("holders", "readable", "editable", "holders_seen", "forbidden"),
    [
        ({"a": OWNS}, Readable(A), Editable(A), ["a"], ""),
        ({"a": "handed_off"}, Readable(A), Editable(A), ["a"], ""),
        (
            {"a": OWNS},
            Readable(A),
            Editable(),
            ["a"],
            "it belongs to the DAG a, whose task instances you may not edit",
        ),
        ({"a": OWNS}, Readable(connections=CONN), Editable(connections=CONN), None, ""),
        ({"a": OWNS, "b": OWNS}, Readable(A), Editable(A), ["a"], "it also belongs to a DAG that you may not read"),
        ({"a": OWNS, "b": OWNS}, Readable(A | B), Editable(A | B), ["a", "b"], ""),
        ({"a": OWNS, "b": WATCHES}, Readable(A), Editable(A), ["a"], ""),
        ({"a": OWNS, "b": WATCHES}, Readable(B, CONN), Editable(B, CONN), None, ""),
        ({"b": WATCHES}, Readable(B), Editable(B), None, ""),
        ({"b": WATCHES}, Readable(connections=CONN), Editable(connections=CONN), [], ""),
        ({}, Readable(A), Editable(A), None, ""),
        (
            {},
            Readable(A, CONN),
            Editable(A),
            [],
            "no task owns it: only users who may edit the connection conn may cancel it",
        ),
        ({}, Readable(connections=CONN), Editable(connections=CONN), [], ""),
        # A record by a DAG of another team than the connection's has no effect.
        ({"a": OWNS}, Readable(A, teams_of_connections=TEAM), Editable(A), None, ""),
        ({"a": OWNS}, Readable(A, teams_of_dags={"a": "x"}, teams_of_connections=TEAM), Editable(A), ["a"], ""),
        ({"a": OWNS}, Readable(A, teams_of_dags={"a": "x"}), Editable(A), ["a"], ""),
    ],
)
def test_permissions_decide_who_sees_and_who_may_cancel(
    holders: dict[str, str], readable: Readable, editable: Editable, holders_seen: list[str] | None, forbidden: str
) -> None:
    seen = as_seen(listed(**holders), readable)

    if holders_seen is None:
        assert seen is None
        return
    assert seen is not None
    shown = [holder.dag_id for holder in seen.listed.held.holders]
    assert (shown, seen.forbids(editable)) == (holders_seen, forbidden)
    assert seen.hidden_holders == len(holders) - len(holders_seen)


def test_operation_that_a_hidden_task_needs_is_no_orphan() -> None:
    data: dict[str, Any] = {"name": "projects/p/operations/A", "metadata": {"state": "RUNNING"}}
    failed = Holder("a", "run", "task", task_state="failed", run_state="failed")
    running = Holder("b", "run", "task", task_state="running", run_state="running")
    cancelling = replace(running, ownership="canceller")

    def seen(*holders: Holder) -> tuple[bool, bool, int]:
        found = as_seen(ListedOperation("conn", HeldOperation(Operation.from_api(data), holders)), Readable(A))
        assert found is not None
        return found.listed.held.orphaned, found.needed, len(found.listed.held.holders)

    assert seen(failed) == (True, False, 1)
    assert seen(failed, running) == (False, True, 1)
    assert seen(failed, cancelling) == (True, False, 1)
