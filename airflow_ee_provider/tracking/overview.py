"""All operations of the connections that are shown, each with who holds it: for the page and the command line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.metrics import flush, measure
from airflow_ee_provider.earth_engine.model.operations import OperationState
from airflow_ee_provider.tracking.database import read_holdings
from airflow_ee_provider.tracking.holders import CLOCKS_DIFFER, HeldOperation, HeldOperationDict, with_holders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.model.operations import Operation

#: How many projects are listed side by side.
SIDE_BY_SIDE = 4


class ListedOperationDict(HeldOperationDict):
    """An operation as the page and the command line show it, as plain JSON."""

    #: The connection that lists it, and that can cancel it.
    conn_id: str
    #: Why the collector has cancelled it; None if it has not.
    cancelled_because: str | None


@dataclass(frozen=True)
class ListedOperation:
    """An operation, who holds it, and the connection that lists it.

    :param cancelled_because: why the collector has cancelled it; None if it has not.
    """

    conn_id: str
    held: HeldOperation
    cancelled_because: str | None = None

    def as_dict(self) -> ListedOperationDict:
        """Return it as plain JSON."""
        return {**self.held.as_dict(), "conn_id": self.conn_id, "cancelled_because": self.cancelled_because}


@dataclass(frozen=True)
class Overview:
    """What was found, the latest operation first.

    :param errors: by connection, why its project could not be listed.
    :param connections: that were asked.
    """

    operations: list[ListedOperation]
    errors: dict[str, str] = field(default_factory=dict)
    connections: tuple[str, ...] = ()


def read_overview(conn_ids: Iterable[str], project_id: str | None = None) -> Overview:
    """List the projects of connections, and join what is there with what Airflow's tasks have recorded.

    One list and one look at Airflow's database, whatever the number of operations. A project that several connections
    name is shown once, as the first of them.

    :param project_id: to list instead of each connection's own.
    """
    shown = list(dict.fromkeys(conn_ids))
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        listings = dict(zip(shown, threads.map(lambda conn_id: _listing(conn_id, project_id), shown), strict=True))
    found: dict[str, tuple[str, Operation]] = {}
    for conn_id, listing in listings.items():
        for operation in () if isinstance(listing, str) else listing:
            found.setdefault(str(operation.name), (conn_id, operation))
    # The database after the lists: what a task has begun to want by now is not called orphaned.
    operations = [operation for _, operation in found.values()]
    held = with_holders(operations, read_holdings)
    reasons = _reasons(operations)
    together = [
        ListedOperation(conn_id, one, reasons.get(str(one.operation.name)))
        for (conn_id, _), one in zip(found.values(), held, strict=True)
    ]
    measure("orphans", sum(one.held.orphaned for one in together))
    flush()
    together.sort(key=lambda one: str(one.held.operation.create_time or ""), reverse=True)
    errors = {conn_id: text for conn_id, text in listings.items() if isinstance(text, str)}
    return Overview(together, errors, tuple(shown))


def _reasons(operations: Iterable[Operation]) -> dict[str, str]:
    """Return why the collector has cancelled operations, by name; Airflow's audit log knows."""
    cancelled = [one for one in operations if one.state in (OperationState.CANCELLED, OperationState.CANCELLING)]
    times = [one.create_time for one in cancelled if one.create_time is not None]
    if not times:
        return {}
    from airflow.utils.session import create_session

    from airflow_ee_provider.tracking.audit import cancelled_automatically

    with create_session() as session:
        return cancelled_automatically(session, min(times) - CLOCKS_DIFFER)


def _listing(conn_id: str, project_id: str | None) -> list[Operation] | str:
    from airflow_ee_provider.hooks.server import EarthEngineServerHook

    hook = EarthEngineServerHook(conn_id, project_id)
    try:
        return hook.list_operations()
    except EarthEngineError as error:
        return hook.describe(error)
    except Exception as error:  # noqa: BLE001 (a secrets backend raises what it likes, and its text may be a secret's)
        return f"The connection {conn_id!r} cannot be read: {type(error).__name__}."
