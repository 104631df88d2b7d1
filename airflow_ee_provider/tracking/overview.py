"""List the operations of connections, each with the tasks that recorded it, for the page and the command line."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, OperationNotFoundError
from airflow_ee_provider.earth_engine.model.metrics import flush, measure
from airflow_ee_provider.earth_engine.model.operations import Operation, OperationState
from airflow_ee_provider.earth_engine.protocol.api_methods import list_operations
from airflow_ee_provider.tracking.database import Recorded, read_holdings
from airflow_ee_provider.tracking.holders import CLOCKS_DIFFER, HeldOperation, HeldOperationDict, join, with_holders
from airflow_ee_provider.tracking.unhurried import rest, unhurried

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.hooks.earth_engine import EarthEngineServerHook

#: How many projects are listed at the same time.
SIDE_BY_SIDE = 4

#: The number of operations above which a list is long, and how long such a list is used, in seconds.
LONG, LONG_STANDS = 1000, 60.0

#: The most operations of a long list that are read by name in that time.
READ_BY_NAME = 200


class ListedOperationDict(HeldOperationDict):
    """An operation as the page and the command line show it, as plain JSON."""

    #: The connection that lists it and can cancel it.
    conn_id: str
    #: Why the collector cancelled it; None if it did not.
    cancelled_because: str | None


@dataclass(frozen=True)
class ListedOperation:
    """An operation with the task instances that recorded it, and the connection that lists it.

    :param cancelled_because: Why the collector cancelled it; None if it did not.
    """

    conn_id: str
    held: HeldOperation
    cancelled_because: str | None = None

    def as_dict(self) -> ListedOperationDict:
        """Return it as plain JSON."""
        return {**self.held.as_dict(), "conn_id": self.conn_id, "cancelled_because": self.cancelled_because}


@dataclass(frozen=True, eq=False)
class Overview:
    """The operations of some connections, the latest first.

    :param errors: By connection, why its project could not be listed.
    :param connections: All connections that were asked.
    :param age: The age of the oldest list when the overview was made, in seconds.
    """

    operations: list[ListedOperation]
    errors: dict[str, str] = field(default_factory=dict)
    connections: tuple[str, ...] = ()
    age: float = 0.0


def read_overview(conn_ids: Iterable[str], project_id: str | None = None, *, also_ended: bool = False) -> Overview:
    """List the operations of connections' projects, and join them with the records of Airflow's tasks.

    A project that several connections name is listed once, for the first of them.

    :param project_id: The Cloud project to list instead of each connection's own.
    :param also_ended: Whether to include ended operations. Earth Engine lists those of the last days.
    """
    if not also_ended:
        return ActiveOverviews(project_id).read(conn_ids)

    hooks = {conn_id: _hook(conn_id, project_id) for conn_id in conn_ids}
    with_tasks = partial(with_holders, read_holdings=read_holdings)
    return _overview(hooks, lambda conn_id: hooks[conn_id].list_operations(), with_tasks)


class ActiveOverviews:
    """Reads repeatedly which operations are active; each read uses the results of the last one.

    The API guarantees no order of a list and has no filter. So a long list is read once a minute; in between, its
    active operations are read by name, if there are few.
    """

    def __init__(self, project_id: str | None = None) -> None:
        self._project_id = project_id
        self._recorded = Recorded()
        self._lists: dict[str, _List] = {}
        self._last: dict[str, ListedOperation] = {}

    def read(self, conn_ids: Iterable[str]) -> Overview:
        """Return the operations that are active now. In a long list, new operations appear within a minute."""
        hooks = {conn_id: _hook(conn_id, self._project_id) for conn_id in conn_ids}

        def listed(conn_id: str) -> list[Operation]:
            return self._listed(conn_id, hooks[conn_id])

        overview = _overview(hooks, listed, self._with_holders, lambda conn_id: self._lists[conn_id].age, self._last)
        self._last = {one.held.operation.name.id: one for one in overview.operations}
        return overview

    def _with_holders(self, operations: Sequence[Operation]) -> list[HeldOperation]:
        known = {operation_id: one.held for operation_id, one in self._last.items()}
        return join(operations, self._recorded.of(operations), known)

    def _listed(self, conn_id: str, hook: EarthEngineServerHook) -> list[Operation]:
        known = self._lists.pop(conn_id, None)
        if known is None or known.length <= LONG or known.age >= LONG_STANDS:
            project = self._project_id or hook.account.project
            listing = hook.run(list_operations(project, active_only=True, after_each=rest))
            known = _List(listing.listed, _same(listing.operations, {} if known is None else known.active))
        elif 0 < len(known.active) <= READ_BY_NAME:
            found = hook.read_operations(list(known.active))
            known.active |= _same([one for one in found.values() if isinstance(one, Operation)], known.active)
            gone = {name for name, one in found.items() if isinstance(one, OperationNotFoundError)}
            known.active = {name: one for name, one in known.active.items() if not one.done and name not in gone}
        self._lists[conn_id] = known
        return list(known.active.values())


def _same(read: Iterable[Operation], known: Mapping[OperationName, Operation]) -> dict[OperationName, Operation]:
    """Return operations by name; the object of the earlier read for each operation that has not changed."""
    return {one.name: before if (before := known.get(one.name)) == one and before else one for one in unhurried(read)}


@dataclass
class _List:
    """A project's list, as last read.

    :param length: The number of its operations.
    :param active: The active operations, as last read.
    """

    length: int
    active: dict[OperationName, Operation]
    read_at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """The seconds since the list was read."""
        return time.monotonic() - self.read_at


def read_named(conn_ids: Iterable[str], names: Collection[OperationName], timeout: float) -> list[ListedOperation]:
    """Read some operations, and return each with the first connection of its project.

    Operations in no connection's project, and those that Earth Engine does not know, are omitted. Of an operation that
    cannot be read now, only the name is known.

    :param timeout: The longest time for reading the operations of one connection, in seconds; no `Retry-After` exceeds
        it.
    """
    found: dict[OperationName, tuple[str, Operation]] = {}
    for conn_id in dict.fromkeys(conn_ids):
        try:
            hook = _hook(conn_id)
            mine = [name for name in names if name.project == hook.account.project and name not in found]
            read = hook.read_operations(mine, timeout=timeout) if mine else {}
        except Exception:  # noqa: BLE001, S112 (one connection's error must not prevent reading the others)
            continue
        found |= {
            name: (conn_id, one if isinstance(one, Operation) else Operation.unread(name))
            for name, one in read.items()
            if not isinstance(one, OperationNotFoundError)
        }
    held = with_holders([operation for _, operation in found.values()], read_holdings)
    return [ListedOperation(conn_id, one) for (conn_id, _), one in zip(found.values(), held, strict=True)]


def _overview(
    hooks: Mapping[str, EarthEngineServerHook],
    list_project: Callable[[str], list[Operation]],
    with_tasks: Callable[[list[Operation]], list[HeldOperation]],
    age: Callable[[str], float] = lambda _: 0.0,
    known: Mapping[str, ListedOperation] | None = None,
) -> Overview:
    """List the projects at the same time; then read the database once for all operations.

    :param known: The last overview's operations, by their ids; unchanged ones are reused.
    """
    shown = list(hooks)

    def listing(conn_id: str) -> list[Operation] | str:
        try:
            return list_project(conn_id)
        except EarthEngineError as error:
            return hooks[conn_id].describe(error)
        except Exception as error:  # noqa: BLE001 (a secrets backend may raise any exception, and its text may be secret)
            return f"Could not read the connection {conn_id!r}: {type(error).__name__}."

    try:
        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            listings = dict(zip(shown, threads.map(listing, shown), strict=True))
    except RuntimeError:  # The system starts no more threads.
        listings = {conn_id: listing(conn_id) for conn_id in shown}
    found: dict[OperationName, Operation] = {}
    listed_by: dict[OperationName, str] = {}
    for conn_id, operations in listings.items():
        for operation in () if isinstance(operations, str) else unhurried(operations):
            found.setdefault(operation.name, operation)
            listed_by.setdefault(operation.name, conn_id)
    # The database is read after the lists, so that an operation that a task needs by now does not count as orphaned.
    everything = list(found.values())
    held = with_tasks(everything)
    reasons, together, known = _reasons(everything), [], known or {}
    for one in unhurried(held):
        name = one.operation.name
        listed = ListedOperation(listed_by[name], one, reasons.get(str(name)))
        before = known.get(name.id)
        is_same = before is not None and before.held is one and before == listed
        together.append(before if before is not None and is_same else listed)
    measure("orphans", sum(one.held.orphaned for one in unhurried(together)))
    flush()
    together.sort(key=lambda one: str(one.held.operation.create_time or ""), reverse=True)
    errors = {conn_id: text for conn_id, text in listings.items() if isinstance(text, str)}
    ages = [age(conn_id) for conn_id in shown if conn_id not in errors]
    return Overview(together, errors, tuple(shown), max(ages, default=0.0))


def _reasons(operations: Iterable[Operation]) -> dict[str, str]:
    """Return why the collector cancelled operations, by name, from Airflow's audit log."""
    cancelled = [one for one in operations if one.state in (OperationState.CANCELLED, OperationState.CANCELLING)]
    times = [one.create_time for one in cancelled if one.create_time is not None]
    if not times:
        return {}
    from airflow.utils.session import create_session

    from airflow_ee_provider.tracking.audit import cancelled_automatically

    with create_session() as session:
        return cancelled_automatically(session, min(times) - CLOCKS_DIFFER)


def _hook(conn_id: str, project_id: str | None = None) -> EarthEngineServerHook:
    from airflow_ee_provider.hooks.earth_engine import EarthEngineServerHook

    return EarthEngineServerHook(conn_id, project_id)
