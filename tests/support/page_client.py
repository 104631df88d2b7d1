"""The API server of Airflow 3 in this process, and its users."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

from airflow_ee_provider.plugins import app as doors
from airflow_ee_provider.plugins.cached_overview import of_active, of_everything
from airflow_ee_provider.plugins.permissions import forget_permissions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

OPERATIONS = "/earth-engine/operations"
CANCEL = "/earth-engine/operations/cancel"
ORPHANS = "/earth-engine/orphans"


@contextmanager
def api_server() -> Iterator[TestClient]:
    """Run the API server; Airflow's database must have its tables."""
    purge_cached_app()
    with TestClient(create_app(apps="core"), raise_server_exceptions=False) as client:
        yield client
    purge_cached_app()


def cache_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the page's caches of operations and of permissions."""
    monkeypatch.setattr(doors, "_active", of_active())
    monkeypatch.setattr(doors, "_everything", of_everything())
    forget_permissions()


def role(name: str) -> dict[str, str]:
    """Return the headers of requests of a user with a role."""
    user = SimpleAuthManagerUser(username=name, role=name)
    return {"Authorization": f"Bearer {get_auth_manager().generate_jwt(user)}"}
