"""Which task holds an operation, and whether any task still wants it: the rule, and the join."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.earth_engine.model.results import OperationDict
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_ee_provider.earth_engine.model.operations import Operation

#: States of a DAG run that has not ended.
ACTIVE_RUN_STATES = ("queued", "running")

#: By how much the clocks of Earth Engine and of Airflow's database may differ: a record is made after its operation.
CLOCKS_DIFFER = timedelta(hours=2)


class HolderDict(TypedDict):
    """A task instance that has recorded an operation, as plain JSON."""

    dag_id: str
    run_id: str
    task_id: str
    #: -1 for a task that is not mapped.
    map_index: int
    #: The number of the task's latest try.
    try_number: int
    #: Of the task instance now; None before it is scheduled, and after it was cleared.
    task_state: str | None
    run_state: str | None
    #: An `Ownership`: owner, handed_off, observer or canceller.
    ownership: str
    #: Of the DAG, as Airflow has them.
    dag_owners: list[str]
    #: The user who has started the run; None if nobody has, or Airflow is older than 3.1.
    triggered_by: str | None
    #: Whether the task may still want the operation.
    wants: bool


class HeldOperationDict(OperationDict):
    """An operation, and who holds it, as plain JSON."""

    #: From 0 to 1, as far as Earth Engine says.
    progress: float | None
    priority: int | None
    holders: list[HolderDict]
    #: Whether a task has recorded it and no task wants it any more.
    orphaned: bool


@dataclass(frozen=True)
class Holder:
    """A task instance that has recorded operations; the fields are those of `HolderDict`."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 0
    task_state: str | None = None
    run_state: str | None = None
    ownership: str = Ownership.OWNER.value
    dag_owners: tuple[str, ...] = ()
    triggered_by: str | None = None

    @property
    def wants(self) -> bool:
        """Whether this task instance, or one that follows it in its run, may still want what it has recorded.

        One that has succeeded may have handed it on to another of its run; one that was cleared has another try before
        it.
        """
        if self.task_state in ACTIVE_STATES:
            return True
        return self.task_state in (None, "success") and self.run_state in ACTIVE_RUN_STATES

    @property
    def owns(self) -> bool:
        """Whether this task instance is why the operations exist, so that nobody needs them without it.

        One that watches them, or cancels them, is not; and what was started to run on is left alone, but if the run has
        failed.
        """
        return self.ownership == Ownership.OWNER or (
            self.ownership == Ownership.HANDED_OFF and self.run_state == "failed"
        )

    @property
    def name(self) -> str:
        """What a person calls it."""
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{index} of {self.run_id}"

    def describe(self) -> str:
        """Say who it is, and how far."""
        return f"{self.name} ({self.task_state or 'no state'}; its run {self.run_state or 'has no state'})"

    def as_dict(self) -> HolderDict:
        """Return it as plain JSON."""
        return {**asdict(self), "dag_owners": list(self.dag_owners), "wants": self.wants}  # type: ignore[typeddict-item]

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Holder:
        """Read what `as_dict` has returned, on another machine."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(**{**known, "dag_owners": tuple(value.get("dag_owners", ()))})


@dataclass(frozen=True)
class Holding:
    """A task instance, and the names of the operations that it has recorded."""

    holder: Holder
    operation_names: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**self.holder.as_dict(), "operation_names": list(self.operation_names)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Holding:
        """Read what `as_dict` has returned, on another machine."""
        return cls(Holder.from_dict(value), tuple(value["operation_names"]))


@dataclass(frozen=True)
class HeldOperation:
    """An operation, and every task instance that has recorded it."""

    operation: Operation
    holders: tuple[Holder, ...] = ()

    @property
    def orphaned(self) -> bool:
        """Whether it is active, a task has recorded it as its own, and no task may still want it."""
        if self.operation.done or any(holder.wants for holder in self.holders):
            return False
        return any(holder.owns for holder in self.holders)

    def as_dict(self) -> HeldOperationDict:
        """Return it as plain JSON."""
        return {
            **self.operation.as_dict(),
            "progress": self.operation.progress,
            "priority": self.operation.priority,
            "holders": [holder.as_dict() for holder in self.holders],
            "orphaned": self.orphaned,
        }


def join(operations: Iterable[Operation], holdings: Iterable[Holding]) -> list[HeldOperation]:
    """Say of each operation who holds it: who wants it first, then who has recorded it as its own.

    By the operations' ids: a project has a number beside its name, and a task may have recorded either.
    """
    of_id: defaultdict[str, dict[Holder, None]] = defaultdict(dict)
    for holding in holdings:
        for name in holding.operation_names:
            of_id[_id_of(name)][holding.holder] = None
    return [
        HeldOperation(operation, tuple(sorted(of_id.get(operation.name.id, ()), key=_wanting_first)))
        for operation in operations
    ]


def _id_of(name: str) -> str:
    return name.partition("/operations/")[2]


def _wanting_first(holder: Holder) -> tuple[Any, ...]:
    rank = [ownership.value for ownership in Ownership].index(holder.ownership)
    return not holder.wants, rank, holder.dag_id, holder.run_id, holder.task_id, holder.map_index


def with_holders(
    operations: Sequence[Operation], read_holdings: Callable[[datetime], Iterable[Holding]]
) -> list[HeldOperation]:
    """`join` operations with what tasks have recorded since the oldest of them was made.

    :param read_holdings: reads it; not asked if there is nothing to look for.
    """
    times = [operation.create_time for operation in operations if operation.create_time is not None]
    return join(operations, read_holdings(min(times) - CLOCKS_DIFFER) if times else ())
