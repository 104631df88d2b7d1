"""A secret manager that can be unavailable, and a secrets backend that reads Airflow's connections from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import requests
from airflow.secrets import BaseSecretsBackend
from loopback import LoopbackServer, send

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

#: The prefix of the ids of the connections in the secret manager.
PREFIX = "kept_in_a_secret_manager"


class SecretManager(LoopbackServer):
    """Responds with connections as JSON; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        #: By connection id.
        self.connections: dict[str, str] = {}
        #: Whether it responds with status 503.
        self.away = False
        #: The number of requests it received while unavailable.
        self.asked_in_vain = 0

    def settings(self) -> dict[str, str]:
        """Return the settings that make Airflow read connections from this server."""
        return {
            "AIRFLOW__SECRETS__BACKEND": f"{Backend.__module__}.{Backend.__qualname__}",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"url": self.url}),
        }

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Respond with a connection, if it exists and the server is available."""
        self.asked_in_vain += self.away
        connection = self.connections.get(request.path.lstrip("/"), "")
        status = 503 if self.away else 200 if connection else 404
        send(request, b"" if self.away else connection.encode(), status)


class Backend(BaseSecretsBackend):
    """The class that users configure as ``[secrets] backend``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_conn_value(self, conn_id: str, *_args: Any, **_kwargs: Any) -> str | None:
        if not conn_id.startswith(PREFIX):
            return None
        answer = requests.get(f"{self._url}/{conn_id}", timeout=10)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.text

    def get_variable(self, *_args: Any, **_kwargs: Any) -> str | None:
        return None

    def get_config(self, _key: str) -> str | None:
        return None
