"""Who may see and do what on the page: Airflow's auth manager says, as it does for Airflow's own pages.

Airflow does not protect what plugins serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.ownership.overview import ShownOperation

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


def what_forbids_cancel(user: Any, shown: ShownOperation, known: dict[str, bool]) -> str:
    """Say why a user may not cancel an operation; empty if they may.

    Who may change the task instances of every DAG that holds it may; what no task holds is for those who may edit the
    connection: they can do in its name what they like.

    :param known: what was asked before, by DAG and connection.
    """
    if not shown.held.holders:
        if f"connection {shown.conn_id}" not in known:
            known[f"connection {shown.conn_id}"] = may_use_connection(user, shown.conn_id, "PUT")
        if known[f"connection {shown.conn_id}"]:
            return ""
        return f"no task holds it: only who may edit the connection {shown.conn_id} may cancel it"
    for holder in shown.held.holders:
        if holder.dag_id not in known:
            known[holder.dag_id] = _may(user, holder.dag_id, "PUT", DagAccessEntity.TASK_INSTANCE)
        if not known[holder.dag_id]:
            return f"it is held by the DAG {holder.dag_id}, whose tasks you may not change"
    return ""


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
