"""A secret manager, which can be away, and the secrets backend that keeps Airflow's connections in it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import requests
from airflow.secrets import BaseSecretsBackend

if TYPE_CHECKING:
    from types import TracebackType

#: The connections that are kept in it begin so.
PREFIX = "kept_in_a_secret_manager"


class SecretManager:
    """Answers with connections as JSON; a context manager."""

    def __init__(self) -> None:
        #: By connection id.
        self.connections: dict[str, str] = {}
        #: Whether it answers 503.
        self.away = False
        #: How often it was asked while it was away.
        self.asked_in_vain = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def settings(self) -> dict[str, str]:
        """Return what configures Airflow to ask it."""
        return {
            "AIRFLOW__SECRETS__BACKEND": f"{Backend.__module__}.{Backend.__qualname__}",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"url": f"http://127.0.0.1:{self._server.server_port}"}),
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                manager.asked_in_vain += manager.away
                connection = manager.connections.get(self.path.lstrip("/"), "")
                self.send_response(503 if manager.away else 200 if connection else 404)
                self.end_headers()
                self.wfile.write(b"" if manager.away else connection.encode())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> SecretManager:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Backend(BaseSecretsBackend):
    """What people configure as ``[secrets] backend``."""

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
