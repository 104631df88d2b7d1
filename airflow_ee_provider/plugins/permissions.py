"""A user's permissions on the page. Airflow's auth manager decides, as for Airflow's own pages.

Airflow does not protect the endpoints of plugins. An auth manager may send requests to a server, so the page asks it
about many DAGs at once, and keeps an answer for some seconds.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)

from airflow_ee_provider.base.airflow_versions import has_teams

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

Method = Literal["GET", "PUT"]

#: How long an answer of the auth manager is kept, in seconds.
KEPT = 30.0

#: Maximum number of parallel questions to the auth manager about one user.
SIDE_BY_SIDE = 10


class Permissions:
    """A user's permissions to read and change. The auth manager is asked about each DAG and each connection once.

    :param user: The auth manager's object for the user.
    """

    def __init__(self, user: Any) -> None:
        self.user = user
        self._known: dict[tuple[str, ...], dict[str, bool]] = {}
        self.asked_at = time.monotonic()

    def may_open(self) -> bool:
        """Whether the user may read a DAG, or connections."""

        def ask() -> bool:
            manager = get_auth_manager()
            return bool(
                manager.is_authorized_dag(method="GET", access_entity=DagAccessEntity.RUN, user=self.user)
                or manager.is_authorized_connection(method="GET", user=self.user)
                or manager.get_authorized_dag_ids(user=self.user)
            )

        return self._once("may open", ask)

    def may_read_all(self, entity: DagAccessEntity) -> bool:
        """Whether the user may read this entity of DAGs in general; single DAGs may still be forbidden."""

        def ask() -> bool:
            return bool(get_auth_manager().is_authorized_dag(method="GET", access_entity=entity, user=self.user))

        return self._once(f"all {entity.value}", ask)

    def dags(self, dag_ids: Iterable[str], method: Method, entity: DagAccessEntity) -> frozenset[str]:
        """Return the DAGs of which the user may read, or change, this entity."""
        manager = get_auth_manager()
        return self._allowed(
            ("dag", method, entity.value),
            dag_ids,
            lambda ids: _dag_requests(ids, method, entity),
            lambda request: manager.is_authorized_dag(**request, user=self.user),
            lambda requests: manager.batch_is_authorized_dag(requests, user=self.user),
        )

    def connections(self, conn_ids: Iterable[str], method: Method) -> frozenset[str]:
        """Return the connections that the user may read, or edit."""
        manager = get_auth_manager()
        return self._allowed(
            ("connection", method),
            conn_ids,
            lambda ids: _connection_requests(ids, method),
            lambda request: manager.is_authorized_connection(**request, user=self.user),
            lambda requests: manager.batch_is_authorized_connection(requests, user=self.user),
        )

    def _once(self, question: str, ask: Callable[[], bool]) -> bool:
        known = self._known.setdefault(("general",), {})
        if question not in known:
            known[question] = ask()
        return known[question]

    def _allowed(
        self,
        question: tuple[str, ...],
        ids: Iterable[str],
        requests_for: Callable[[Collection[str]], Mapping[str, Any]],
        ask: Callable[[Any], bool],
        ask_for_all: Callable[[Any], bool],
    ) -> frozenset[str]:
        """Return the allowed ids. Ask about all of them first, then about each, since most users may read all."""
        wanted, known = frozenset(ids), self._known.setdefault(question, {})
        if missing := wanted - known.keys():
            requests = requests_for(missing)
            if ask_for_all(list(requests.values())):
                known.update(dict.fromkeys(missing, True))
            elif len(missing) == 1:
                known.update(dict.fromkeys(missing, False))
            else:
                with ThreadPoolExecutor(min(SIDE_BY_SIDE, len(missing))) as threads:
                    asked = [threads.submit(copy_context().run, ask, one) for one in requests.values()]
                    known.update(zip(requests, (one.result() for one in asked), strict=True))
        return frozenset(one for one in wanted if known[one])


_kept: dict[str, Permissions] = {}


def permissions_of(user: Any) -> Permissions:
    """Return a user's permissions, kept for `KEPT` seconds. A cancel must not rely on them alone."""
    key = json.dumps(get_auth_manager().serialize_user(user), sort_keys=True, default=str)
    now = time.monotonic()
    for other in [one for one, permissions in list(_kept.items()) if now - permissions.asked_at > KEPT]:
        _kept.pop(other, None)
    permissions = _kept.setdefault(key, Permissions(user))
    permissions.user = user  # The user's token may have been renewed.
    return permissions


def forget_permissions() -> None:
    """Delete the kept answers about all users."""
    _kept.clear()


def teams_of_dags(dag_ids: Collection[str]) -> dict[str, str]:
    """Return the team of each DAG that has one; empty if Airflow has no teams."""
    from airflow.models.dag import DagModel

    return _teams(getattr(DagModel, "get_dag_id_to_team_name_mapping", None), dag_ids)


def teams_of_connections(conn_ids: Collection[str]) -> dict[str, str]:
    """Return the team of each connection that has one; empty if Airflow has no teams."""
    from airflow.models.connection import Connection

    return _teams(getattr(Connection, "get_conn_id_to_team_name_mapping", None), conn_ids)


def _teams(find: Callable[[list[str]], dict[str, str | None]] | None, ids: Collection[str]) -> dict[str, str]:
    found = find(list(ids)) if find is not None and ids and has_teams() else {}
    return {one: team for one, team in found.items() if team}


def _dag_requests(dag_ids: Collection[str], method: Method, entity: DagAccessEntity) -> dict[str, dict[str, Any]]:
    teams = teams_of_dags(dag_ids)
    return {
        dag_id: {"method": method, "access_entity": entity, "details": _with_team(DagDetails, teams, id=dag_id)}
        for dag_id in dag_ids
    }


def _connection_requests(conn_ids: Collection[str], method: Method) -> dict[str, dict[str, Any]]:
    teams = teams_of_connections(conn_ids)
    return {
        conn_id: {"method": method, "details": _with_team(ConnectionDetails, teams, conn_id=conn_id)}
        for conn_id in conn_ids
    }


def _with_team(details: Any, teams: Mapping[str, str], **name: str) -> Any:
    [one] = name.values()
    has_teams = any(field.name == "team_name" for field in fields(details))  # Airflow 3.0 has none.
    return details(**name, **({"team_name": teams.get(one)} if has_teams else {}))
