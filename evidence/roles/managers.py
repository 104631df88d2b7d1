"""Airflow's auth managers with users of each role, for ``make roles``."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from loopback import LoopbackServer, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from typing_extensions import Self

#: The DAG whose task owns an operation.
DAG_ID = "held_owner"

_READ, _EDIT = "can_read", "can_edit"
_PAGE = [(_READ, "Website"), (_READ, "Plugins")]


class Manager(ABC):
    """An auth manager, its roles, and the configuration that chooses it."""

    name: str
    path: str
    roles: tuple[str, ...]
    #: The permissions of each custom role.
    notes: dict[str, str]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def settings(self) -> dict[str, str]:
        """Return environment variables."""
        return {"AIRFLOW__CORE__AUTH_MANAGER": self.path}

    @abstractmethod
    def tokens(self) -> dict[str, str]:
        """Return a token of a user of each role; called after the API server's app was created."""


class Simple(Manager):
    """The simple auth manager, for development."""

    name, path = "Simple", "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    roles = ("admin", "op", "user", "viewer")
    notes: dict[str, str] = {}  # noqa: RUF012

    def tokens(self) -> dict[str, str]:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        return {
            role: get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role))
            for role in self.roles
        }


class Fab(Manager):
    """Flask AppBuilder's auth manager."""

    name, path = "FAB", "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    #: Custom roles: their general permissions, and those for the DAG, as in its `access_control`.
    _own: dict[str, tuple[list[tuple[str, str]], dict[str, set[str]]]] = {  # noqa: RUF012
        "reader of the DAG": ([*_PAGE, (_READ, "DAG Runs")], {"DAGs": {_READ}}),
        "reader of the DAG's runs alone": (_PAGE, {"DAGs": {_READ}, "DAG Runs": {_READ}}),
        "editor of the DAG": (
            [*_PAGE, (_READ, "DAG Runs"), (_EDIT, "DAG Runs"), (_READ, "Task Instances"), (_EDIT, "Task Instances")],
            {"DAGs": {_READ, _EDIT}},
        ),
        "reader of connections": ([*_PAGE, (_READ, "DAG Runs"), (_READ, "Connections")], {}),
    }
    roles = ("Admin", "Op", "User", "Viewer", "Public", *_own)
    notes = {  # noqa: RUF012
        "reader of the DAG": "*can read on DAG Runs*; `access_control={role: {'DAGs': {'can_read'}}}`",
        "reader of the DAG's runs alone": "`access_control={role: {'DAGs': {'can_read'}, 'DAG Runs': {'can_read'}}}`",
        "editor of the DAG": "*can read on DAG Runs*, *can edit on DAG Runs*, *can edit on Task Instances*; "
        "`access_control={role: {'DAGs': {'can_read', 'can_edit'}}}`",
        "reader of connections": "*can read on DAG Runs*, *can read on Connections*, no DAG",
    }

    def tokens(self) -> dict[str, str]:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

        found = {}
        with get_application_builder() as builder:
            manager = builder.sm
            manager.sync_roles()
            manager.bulk_sync_roles([{"role": role, "perms": general} for role, (general, _) in self._own.items()])
            manager.sync_perm_for_dag(DAG_ID, {role: of_dag for role, (_, of_dag) in self._own.items() if of_dag})
            for number, role in enumerate(self.roles):
                user = manager.add_user(
                    f"user{number}", role, "x", f"{number}@example.com", manager.find_role(role), hashed_password=role
                )
                found[role] = get_auth_manager().generate_jwt(user)
        return found


class Keycloak(Manager):
    """Keycloak, with the permissions that its provider's `create-all` creates."""

    name, path = "Keycloak", "airflow.providers.keycloak.auth_manager.keycloak_auth_manager.KeycloakAuthManager"
    roles = ("Admin", "Op", "User", "Viewer", "reader of the DAG", "no role")
    notes = {"reader of the DAG": "a policy of your own on the claim `resource_id`"}  # noqa: RUF012

    def __init__(self) -> None:
        self.server = KeycloakServer()

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__(None, None, None)

    def settings(self) -> dict[str, str]:
        section = {
            "CLIENT_ID": "airflow",
            "CLIENT_SECRET": "x",
            "REALM": "airflow",
            "SERVER_URL": self.server.url,
        }
        names = {f"AIRFLOW__KEYCLOAK_AUTH_MANAGER__{name}": value for name, value in section.items()}
        return super().settings() | names

    def tokens(self) -> dict[str, str]:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.providers.keycloak.auth_manager.user import KeycloakAuthManagerUser

        manager: Any = get_auth_manager()
        return {
            role: manager.generate_api_jwt(
                KeycloakAuthManagerUser(user_id=role, name=role, access_token=role, refresh_token=None)
            )
            for role in self.roles
        }


_KEYCLOAK_RULES: dict[str, Callable[[str, str, str | None], bool]] = {
    "Admin": lambda *_: True,
    "Op": lambda resource, scope, _: scope in {"GET", "LIST", "MENU"} or resource in {"Connection", "Pool", "Variable"},
    "User": lambda resource, scope, _: scope in {"GET", "LIST", "MENU"} or resource in {"Dag", "Asset"},
    "Viewer": lambda _, scope, __: scope in {"GET", "LIST", "MENU"},
    "reader of the DAG": lambda resource, scope, one: (resource, scope, one) == ("Dag", "GET", DAG_ID),
    "no role": lambda *_: False,
}


class KeycloakServer(LoopbackServer):
    """Keycloak's responses to its auth manager: one permission per request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        role = request.headers["Authorization"].removeprefix("Bearer ")
        resource, _, scope = form["permission"].partition("#")
        claims = json.loads(base64.b64decode(form["claim_token"])) if "claim_token" in form else {}
        allowed = _KEYCLOAK_RULES[role](resource, scope, *claims.get("resource_id", [None]))
        answer = {} if allowed else {"error": "access_denied", "error_description": "not_authorized"}
        send(request, json.dumps(answer).encode(), 200 if allowed else 403)


MANAGERS: dict[str, type[Manager]] = {one.name: one for one in (Simple, Fab, Keycloak)}
