"""Who may see and do what on the page: Airflow's auth manager says, as it does for Airflow's own pages.

Airflow does not protect what plugins serve.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_ee_provider.tracking.overview import ListedOperation

Method = Literal["GET", "PUT"]


def may_read_runs(user: Any, entity: DagAccessEntity = DagAccessEntity.RUN) -> bool:
    """Whether a user may read DAG runs, or another part, of all DAGs that are not forbidden one by one."""
    return bool(get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, user=user))


def may_use_connection(user: Any, conn_id: str, method: Method = "GET") -> bool:
    """Whether a user may read, or edit, a connection."""
    from airflow.models.connection import Connection

    details = ConnectionDetails(conn_id=conn_id, **_team(Connection, conn_id))
    return bool(get_auth_manager().is_authorized_connection(method=method, details=details, user=user))


def readable_dags(user: Any, dag_ids: Iterable[str], entity: DagAccessEntity = DagAccessEntity.RUN) -> set[str]:
    """Return those of the DAGs whose runs, or another part, a user may read."""
    return {dag_id for dag_id in set(dag_ids) if _may(user, dag_id, "GET", entity)}


def what_forbids_cancel(user: Any, operations: Iterable[ListedOperation]) -> str:
    """Say which of the operations a user may not cancel, and why; empty if they may cancel all.

    Who may change the task instances of every DAG that holds it may; what no task holds is for those who may edit the
    connection: they can do in its name what they like.
    """
    forbids = reasons_against(user)
    why = ((one.held.operation.name, forbids(one)) for one in operations)
    return next((f"{name}: {reason}" for name, reason in why if reason), "")


def reasons_against(user: Any) -> Callable[[ListedOperation], str]:
    """Return what says why a user may not cancel an operation; it asks about each DAG and each connection once."""

    @cache
    def may_edit(conn_id: str) -> bool:
        return may_use_connection(user, conn_id, "PUT")

    @cache
    def may_change(dag_id: str) -> bool:
        return _may(user, dag_id, "PUT", DagAccessEntity.TASK_INSTANCE)

    def reason(one: ListedOperation) -> str:
        if not one.held.holders and not may_edit(one.conn_id):
            return f"no task has recorded it: only users who may edit the connection {one.conn_id} may cancel it"
        for holder in one.held.holders:
            if not may_change(holder.dag_id):
                return f"it belongs to the DAG {holder.dag_id}, whose tasks you may not change"
        return ""

    return reason


def _may(user: Any, dag_id: str, method: Method, entity: DagAccessEntity) -> bool:
    from airflow.models.dag import DagModel

    details = DagDetails(id=dag_id, **_team(DagModel, dag_id))
    manager = get_auth_manager()
    return bool(manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=user))


def _team(model: Any, name: str) -> dict[str, str]:
    """Return whose a DAG or a connection is, where Airflow has teams."""
    find = getattr(model, "get_team_name", None)
    team = find(name) if find else None
    return {"team_name": team} if team else {}
