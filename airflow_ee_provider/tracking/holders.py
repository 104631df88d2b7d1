"""Find the task instances that have recorded an operation, and whether one of them may still need it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.earth_engine.model.results import OperationDict
from airflow_ee_provider.tracking.record import Ownership
from airflow_ee_provider.tracking.unhurried import unhurried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from airflow_ee_provider.earth_engine.model.operations import Operation

#: States of a DAG run that has not ended.
ACTIVE_RUN_STATES = ("queued", "running")

#: The allowed difference between the clocks of Earth Engine and of Airflow's database, for the age of records.
CLOCKS_DIFFER = timedelta(hours=2)

#: How far back records are read: an operation runs for ten days at most, and may wait before that.
OLDEST = timedelta(days=60)


class HolderDict(TypedDict):
    """A task instance that has recorded an operation, as plain JSON."""

    dag_id: str
    run_id: str
    task_id: str
    #: -1 for a task that is not mapped.
    map_index: int
    #: The number of the task's latest try.
    try_number: int
    #: The task instance's present state; None before it is scheduled, and after it was cleared.
    task_state: str | None
    #: The DAG run's present state.
    run_state: str | None
    #: An `Ownership`: owner, handed_off, observer or canceller.
    ownership: str
    #: The DAG's owners in Airflow.
    dag_owners: list[str]
    #: The user who triggered the run; None if no user did, or if Airflow is older than 3.1.
    triggered_by: str | None
    #: Whether the task may still need the operation.
    needs: bool


class HeldOperationDict(OperationDict):
    """An operation and the task instances that have recorded it, as plain JSON."""

    #: From 0 to 1; None if Earth Engine does not report it.
    progress: float | None
    priority: int | None
    holders: list[HolderDict]
    #: Whether the operation is active, a task has recorded it as its own, and no task may still need it.
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
    def needs(self) -> bool:
        """Whether this task instance, or a later one of its run, may still need the operations.

        One that has succeeded may have passed them to another task of the run. One that was cleared will run again.
        One that cancels them needs none.
        """
        if self.ownership == Ownership.CANCELLER:
            return False
        if self.task_state in ACTIVE_STATES:
            return True
        return self.task_state in (None, "success") and self.run_state in ACTIVE_RUN_STATES

    @property
    def owns(self) -> bool:
        """Whether the operations belong to this task instance, so that they are not needed without it.

        They do not belong to a task that only watches or cancels them. Operations that are meant to keep running after
        the task belong to it only if the run has failed.
        """
        return self.ownership == Ownership.OWNER or (
            self.ownership == Ownership.HANDED_OFF and self.run_state == "failed"
        )

    @property
    def name(self) -> str:
        """The task instance and its run, as a text."""
        return _name_of(vars(self))

    def describe(self) -> str:
        """Return its name, its state and the run's state, as a text."""
        return describe_holder(vars(self))

    def as_dict(self) -> HolderDict:
        """Return it as plain JSON."""
        return {**asdict(self), "dag_owners": list(self.dag_owners), "needs": self.needs}  # type: ignore[typeddict-item]


def describe_holders(holders: Sequence[Mapping[str, Any]]) -> str:
    """Return a text with the first of some task instances and the number of the others; empty if there is none.

    :param holders: The task instances, each with the fields of a `HolderDict`.
    """
    if not holders:
        return ""
    return describe_holder(holders[0]) + (f" and {len(holders) - 1} more" if len(holders) > 1 else "")


def describe_holder(holder: Mapping[str, Any]) -> str:
    """Return a task instance's name, its state and the run's state, as a text."""
    return f"{_name_of(holder)} ({holder['task_state'] or 'no state'}; its run {holder['run_state'] or 'has no state'})"


def _name_of(holder: Mapping[str, Any]) -> str:
    index = "" if holder["map_index"] < 0 else f"[{holder['map_index']}]"
    return f"{holder['dag_id']}.{holder['task_id']}{index} of {holder['run_id']}"


@dataclass(frozen=True)
class Holding:
    """A task instance and the names of the operations that it has recorded."""

    holder: Holder
    operation_names: tuple[str, ...]


@dataclass(frozen=True)
class HeldOperation:
    """An operation and all task instances that have recorded it."""

    operation: Operation
    holders: tuple[Holder, ...] = ()

    @property
    def orphaned(self) -> bool:
        """Whether it is active, a task has recorded it as its own, and no task may still need it."""
        return not self.operation.done and is_unneeded(self.holders)

    def as_dict(self) -> HeldOperationDict:
        """Return it as plain JSON."""
        return {
            **self.operation.as_dict(),
            "progress": self.operation.progress,
            "priority": self.operation.priority,
            "holders": [holder.as_dict() for holder in self.holders],
            "orphaned": self.orphaned,
        }


def is_unneeded(holders: Iterable[Holder]) -> bool:
    """Whether a task has recorded an operation as its own, and no task may still need it."""
    known = list(holders)
    return any(holder.owns for holder in known) and not any(holder.needs for holder in known)


def join(
    operations: Sequence[Operation], holdings: Iterable[Holding], known: Mapping[str, HeldOperation] | None = None
) -> list[HeldOperation]:
    """Return operations, each with the task instances that recorded it: first those that may need it, then owners.

    :param known: Results of an earlier call, by the operations' ids; unchanged results are reused.
    """
    found, known = _holders((operation.name.id for operation in operations), holdings), known or {}
    held = []
    for operation in unhurried(operations):
        holders, before = _in_order(found[operation.name.id]), known.get(operation.name.id)
        is_same = before is not None and before.operation is operation and before.holders == holders
        held.append(before if before is not None and is_same else HeldOperation(operation, holders))
    return held


def orphans_among(names: Iterable[str], holdings: Iterable[Holding]) -> dict[str, str]:
    """Return which of some active operations are orphaned, each with a text that names the task that owned it."""
    ids = {name: id_of(name) for name in names}
    holders = _holders(ids.values(), holdings)
    return {
        name: known[0].describe()
        for name, one in unhurried(ids.items())
        if is_unneeded(known := _in_order(holders[one]))
    }


#: The task instances that recorded an operation. Most operations have one, which needs no container.
_Found: TypeAlias = "Holder | dict[Holder, None] | None"


def _holders(ids: Iterable[str], holdings: Iterable[Holding]) -> dict[str, _Found]:
    """Return the task instances that recorded operations, by the operations' ids."""
    found: dict[str, _Found] = dict.fromkeys(ids)
    for holding in unhurried(holdings):
        for name in holding.operation_names:
            if (one := id_of(name)) in found:
                found[one] = _with(found[one], holding.holder)
    return found


def _with(found: _Found, holder: Holder) -> _Found:
    if found is None or found == holder:
        return holder
    holders = found if isinstance(found, dict) else {found: None}
    holders[holder] = None
    return holders


def _in_order(found: _Found) -> tuple[Holder, ...]:
    if isinstance(found, dict):
        return tuple(sorted(found, key=_needing_first))
    return () if found is None else (found,)


def id_of(name: str) -> str:
    """Return an operation's id. Records have names with the project's id or its number, so only the id is unique."""
    return name.partition("/operations/")[2]


def _needing_first(holder: Holder) -> tuple[Any, ...]:
    rank = [ownership.value for ownership in Ownership].index(holder.ownership)
    return not holder.needs, rank, holder.dag_id, holder.run_id, holder.task_id, holder.map_index


def with_holders(
    operations: Sequence[Operation], read_holdings: Callable[[Iterable[str], datetime], Iterable[Holding]]
) -> list[HeldOperation]:
    """`join` operations with the records since the creation of the oldest one.

    :param read_holdings: Reads the records; not called if there are no operations.
    """
    since = earliest_record(operations)
    names = [str(operation.name) for operation in operations]
    return join(operations, () if since is None else read_holdings(names, since))


def earliest_record(operations: Iterable[Operation]) -> datetime | None:
    """Return the earliest time at which one of the operations can have been recorded; None if there are none.

    An operation that could not be read has no creation time, so its records since `OLDEST` are read.
    """
    oldest = datetime.now(timezone.utc) - OLDEST
    times = [oldest if one.create_time is None else one.create_time - CLOCKS_DIFFER for one in operations]
    return max(oldest, min(times)) if times else None
