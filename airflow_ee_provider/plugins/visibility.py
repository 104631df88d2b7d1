"""The rule for which operations a user sees on the page, and which of them they may cancel.

Users who may read a DAG's runs see the operations that its tasks own. Users who may edit its task instances may cancel
them, since they can do that too by marking the task in Airflow. For operations without an owner, the permissions for
the connection decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

from airflow_ee_provider.plugins.permissions import teams_of_connections, teams_of_dags
from airflow_ee_provider.tracking.holders import HeldOperation
from airflow_ee_provider.tracking.record import Ownership

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_ee_provider.plugins.permissions import Permissions
    from airflow_ee_provider.tracking.holders import Holder
    from airflow_ee_provider.tracking.overview import ListedOperation

#: A task that only watches or cancels an operation gives its DAG's users no permission, since any DAG may do that.
_OWNING = (Ownership.OWNER, Ownership.HANDED_OFF)


@dataclass(frozen=True)
class Readable:
    """A user's read permissions for the DAGs and connections of some operations.

    :param dags: The DAGs whose runs the user may read.
    :param connections: The connections that the user may read.
    :param teams_of_dags: The team of each DAG that has one.
    :param teams_of_connections: The team of each connection that has one.
    """

    dags: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    teams_of_dags: Mapping[str, str] = field(default_factory=dict)
    teams_of_connections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Editable:
    """A user's edit permissions.

    :param dags: The DAGs whose task instances the user may edit.
    :param connections: The connections that the user may edit.
    """

    dags: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _PartlySeen(HeldOperation):
    """An operation with only the tasks that a user may see. All its tasks decide whether it is orphaned."""

    everyone: tuple[Holder, ...] = ()

    @property
    def orphaned(self) -> bool:
        return HeldOperation(self.operation, self.everyone).orphaned


@dataclass(frozen=True)
class Seen:
    """An operation as a user sees it.

    :param listed: The operation, with the task instances that have recorded it, of DAGs that the user may read.
    :param owners: All DAGs whose tasks own it.
    :param hidden_holders: The number of further task instances that have recorded it.
    :param needed: Whether one of all these task instances may still need it.
    """

    listed: ListedOperation
    owners: frozenset[str]
    hidden_holders: int
    needed: bool

    @property
    def name(self) -> str:
        """The operation's full name."""
        return str(self.listed.held.operation.name)

    def forbids(self, editable: Editable) -> str:
        """Return why the user may not cancel the operation; empty if they may, or if it has ended."""
        if self.listed.held.operation.done:
            return ""
        conn_id = self.listed.conn_id
        if not self.owners and conn_id not in editable.connections:
            return f"no task owns it: only users who may edit the connection {conn_id} may cancel it"
        # A cancel affects the tasks of all these DAGs.
        if others := self.owners - editable.dags:
            shown = sorted(others.intersection(holder.dag_id for holder in self.listed.held.holders))
            if shown:
                return f"it belongs to the DAG {shown[0]}, whose task instances you may not edit"
            return "it also belongs to a DAG that you may not read"
        return ""


def readable(operations: Iterable[ListedOperation], permissions: Permissions) -> Readable:
    """Return a user's read permissions for the DAGs and connections of some operations."""
    every = list(operations)
    dags = {holder.dag_id for one in every for holder in one.held.holders}
    connections = {one.conn_id for one in every}
    return Readable(
        permissions.dags(dags, "GET", DagAccessEntity.RUN),
        permissions.connections(connections, "GET"),
        teams_of_dags(dags),
        teams_of_connections(connections),
    )


def editable(seen: Iterable[Seen], permissions: Permissions) -> Editable:
    """Return a user's edit permissions for the DAGs and connections of the operations that have not ended."""
    active = [one for one in seen if not one.listed.held.operation.done]
    return Editable(
        permissions.dags({dag_id for one in active for dag_id in one.owners}, "PUT", DagAccessEntity.TASK_INSTANCE),
        permissions.connections({one.listed.conn_id for one in active if not one.owners}, "PUT"),
    )


def as_seen(one: ListedOperation, readable: Readable) -> Seen | None:
    """Return an operation as a user sees it; None if they may not see it."""
    owners = _owning_dags(one, readable)
    if not (owners & readable.dags if owners else one.conn_id in readable.connections):
        return None
    operation, everyone = one.held.operation, one.held.holders
    holders = tuple(holder for holder in everyone if holder.dag_id in readable.dags)
    hidden = len(everyone) - len(holders)
    listed = replace(one, held=_PartlySeen(operation, holders, everyone)) if hidden else one
    return Seen(listed, owners, hidden, needed=any(holder.needs for holder in everyone))


def _owning_dags(one: ListedOperation, readable: Readable) -> frozenset[str]:
    """Return the DAGs whose tasks own an operation. A DAG of another team than the connection's cannot own it."""
    team = readable.teams_of_connections.get(one.conn_id)
    return frozenset(
        holder.dag_id
        for holder in one.held.holders
        if holder.ownership in _OWNING and team in (None, readable.teams_of_dags.get(holder.dag_id))
    )
