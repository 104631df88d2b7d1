"""Which operations a user sees on the page, and which of them they may cancel: the rule, and what it needs to know.

What a DAG owns is seen by who may read the DAG's runs, and cancelled by who may edit its task instances: they can do
the same by marking the task in Airflow. The connection's permission is for what no task owns.
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

#: A task that only watches an operation, or cancels it, gives its DAG's users nothing: any DAG may watch any operation.
_OWNING = (Ownership.OWNER, Ownership.HANDED_OFF)


@dataclass(frozen=True)
class Readable:
    """What a user may read, of the DAGs and connections of some operations.

    :param dags: whose runs they may read.
    :param teams_of_dags: by DAG, its team, if any.
    """

    dags: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    teams_of_dags: Mapping[str, str] = field(default_factory=dict)
    teams_of_connections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Editable:
    """What a user may change.

    :param dags: whose task instances they may edit.
    """

    dags: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _PartlySeen(HeldOperation):
    """An operation with those of its holders that a user may see; all of them decide whether it is an orphan."""

    everyone: tuple[Holder, ...] = ()

    @property
    def orphaned(self) -> bool:
        return HeldOperation(self.operation, self.everyone).orphaned


@dataclass(frozen=True)
class Seen:
    """An operation as a user sees it.

    :param listed: it, with the task instances that have recorded it, of DAGs that the user may read.
    :param owners: the DAGs whose tasks own it, all of them.
    :param hidden_holders: how many more task instances have recorded it.
    :param wanted: whether one of all these may still need it.
    """

    listed: ListedOperation
    owners: frozenset[str]
    hidden_holders: int
    wanted: bool

    @property
    def name(self) -> str:
        """The operation's full name."""
        return str(self.listed.held.operation.name)

    def forbids(self, editable: Editable) -> str:
        """Say why the user may not cancel it; empty if they may, or it has ended."""
        if self.listed.held.operation.done:
            return ""
        conn_id = self.listed.conn_id
        if not self.owners and conn_id not in editable.connections:
            return f"no task owns it: only users who may edit the connection {conn_id} may cancel it"
        # Their tasks would all lose it.
        if others := self.owners - editable.dags:
            shown = sorted(others.intersection(holder.dag_id for holder in self.listed.held.holders))
            if shown:
                return f"it belongs to the DAG {shown[0]}, whose task instances you may not edit"
            return "it belongs also to a DAG that you may not read"
        return ""


def readable(operations: Iterable[ListedOperation], permissions: Permissions) -> Readable:
    """Ask what a user may read, of the DAGs and connections of some operations."""
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
    """Ask what a user may change, of the DAGs and connections of some operations that have not ended."""
    active = [one for one in seen if not one.listed.held.operation.done]
    return Editable(
        permissions.dags({dag_id for one in active for dag_id in one.owners}, "PUT", DagAccessEntity.TASK_INSTANCE),
        permissions.connections({one.listed.conn_id for one in active if not one.owners}, "PUT"),
    )


def as_seen(one: ListedOperation, readable: Readable) -> Seen | None:
    """Return an operation as a user sees it; None if they may not."""
    owners = _owning_dags(one, readable)
    if not (owners & readable.dags if owners else one.conn_id in readable.connections):
        return None
    operation, everyone = one.held.operation, one.held.holders
    holders = tuple(holder for holder in everyone if holder.dag_id in readable.dags)
    hidden = len(everyone) - len(holders)
    listed = replace(one, held=_PartlySeen(operation, holders, everyone)) if hidden else one
    return Seen(listed, owners, hidden, wanted=any(holder.wants for holder in everyone))


def _owning_dags(one: ListedOperation, readable: Readable) -> frozenset[str]:
    """Return the DAGs whose tasks own an operation; a DAG of another team than its connection's cannot."""
    team = readable.teams_of_connections.get(one.conn_id)
    return frozenset(
        holder.dag_id
        for holder in one.held.holders
        if holder.ownership in _OWNING and team in (None, readable.teams_of_dags.get(holder.dag_id))
    )
