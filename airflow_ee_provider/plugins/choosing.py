"""Choose the operations in an answer of the page: by task instance and by filters, with an order and a limit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_ee_provider.tracking.holders import Holder
    from airflow_ee_provider.tracking.overview import ListedOperation

#: The filter for all states of operations that have not ended.
ACTIVE = "active"

#: The states that only an active operation has.
_ACTIVE_STATES = (ACTIVE, "PENDING", "RUNNING", "CANCELLING")

#: The most DAGs in the totals.
MOST_TOTALS = 20


@dataclass(frozen=True)
class Place:
    """The task instances whose operations a page shows; None stands for all."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None

    def is_about(self, holders: Iterable[Holder]) -> bool:
        """Whether the page shows the operations of one of these task instances, or all operations."""
        if self == _EVERYWHERE:  # A shortcut, since there can be thousands of operations.
            return True
        given = {name: value for name, value in vars(self).items() if value is not None}
        return any(all(getattr(holder, name) == value for name, value in given.items()) for holder in holders)


_EVERYWHERE = Place()


@dataclass(frozen=True)
class Choice:
    """The filters and the order of a page's operations; an empty text stands for all.

    :param state: A state, or `ACTIVE`.
    :param dag: The DAG of a task that has recorded the operation.
    :param text: A part of the description or of the name, in upper or lower case.
    :param orphaned: Only orphaned operations.
    :param mine: Only operations of the user's own DAGs and runs.
    :param sort: One of `COLUMNS`.
    :param limit: Maximum number of operations; None for all.
    :param offset: How many operations to omit at the beginning.
    """

    state: str = ""
    dag: str = ""
    conn_id: str = ""
    text: str = ""
    orphaned: bool = False
    mine: bool = False
    sort: str = "age"
    descending: bool = False
    limit: int | None = None
    offset: int = 0

    @property
    def is_of_active(self) -> bool:
        """Whether it can choose only active operations. Ended ones are read only if a request asks for them."""
        return self.state in _ACTIVE_STATES

    def choose(
        self, operations: Iterable[ListedOperation], is_mine: Callable[[ListedOperation], bool]
    ) -> list[ListedOperation]:
        """Return the chosen operations in order, without applying `limit` and `offset`."""
        text = self.text.strip().lower()
        chosen = [
            one
            for one in operations
            if self._is_in_state(one)
            and (not self.conn_id or one.conn_id == self.conn_id)
            and (not self.dag or any(holder.dag_id == self.dag for holder in one.held.holders))
            and (not text or text in f"{one.held.operation.description} {one.held.operation.name}".lower())
            and (not self.orphaned or one.held.orphaned)
            and (not self.mine or is_mine(one))
        ]
        key = COLUMNS[self.sort]
        chosen.sort(key=lambda one: str(one.held.operation.name))
        chosen.sort(key=key, reverse=self.descending)
        return chosen

    def rows(self, chosen: Sequence[ListedOperation]) -> Sequence[ListedOperation]:
        """Return the chosen operations that `limit` and `offset` select."""
        return chosen[self.offset : None if self.limit is None else self.offset + self.limit]

    def _is_in_state(self, one: ListedOperation) -> bool:
        operation = one.held.operation
        return not self.state or (not operation.done if self.state == ACTIVE else operation.state.value == self.state)


def _state(one: ListedOperation) -> Any:
    return one.held.operation.state.value, one.held.operation.progress or 0.0


def _first_task(one: ListedOperation) -> Any:
    first = next(iter(one.held.holders), None)
    return (first.dag_id, first.run_id, first.task_id, first.map_index) if first else ()


def _age(one: ListedOperation) -> float:
    created = one.held.operation.create_time
    return float("inf") if created is None else -created.timestamp()


def _running(one: ListedOperation) -> float:
    operation = one.held.operation
    if operation.start_time is None:
        return -1.0
    return ((operation.end_time or datetime.now(timezone.utc)) - operation.start_time).total_seconds()


#: The columns by which operations are sorted, and the key of each.
COLUMNS: Mapping[str, Callable[[ListedOperation], Any]] = {
    "state": _state,
    "description": lambda one: one.held.operation.description.lower(),
    "type": lambda one: one.held.operation.type,
    "holder": _first_task,
    "age": _age,
    "running": _running,
    "attempt": lambda one: one.held.operation.attempt or 0,
    "eecu": lambda one: one.held.operation.batch_eecu_usage_seconds or 0.0,
}


class TotalDict(TypedDict):
    """The totals of a DAG's operations; an empty ``dag`` stands for operations that no task has recorded."""

    dag: str
    active: int
    orphaned: int
    eecu_seconds: float


def totals(operations: Iterable[ListedOperation]) -> list[TotalDict]:
    """Return the totals of operations by DAG, the DAG with the most active operations first."""
    found: defaultdict[str, TotalDict] = defaultdict(lambda: {"dag": "", "active": 0, "orphaned": 0, "eecu_seconds": 0})
    for one in operations:
        dag = next((holder.dag_id for holder in one.held.holders), "")
        total = found[dag]
        total["dag"] = dag
        total["active"] += not one.held.operation.done
        total["orphaned"] += one.held.orphaned
        total["eecu_seconds"] += one.held.operation.batch_eecu_usage_seconds or 0
    return sorted(found.values(), key=lambda total: (-total["active"], -total["eecu_seconds"], total["dag"]))
