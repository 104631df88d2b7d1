"""A token server and a service account's key that leads there: google-auth itself, with nothing of Google's."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from types import TracebackType

#: Every access token begins so.
TOKEN = "ya29.a-token-that-nobody-must-see"  # noqa: S105


class TokenServer:
    """Gives out access tokens; a context manager.

    :param expires_in: seconds that a token lives. google-auth replaces one that has less than four minutes left.
    """

    def __init__(self, expires_in: int = 3600) -> None:
        self.expires_in = expires_in
        self.given = 0
        self.revoked = False
        #: How it cannot be reached: ``refused`` (the connection is cut), ``503``; empty where it can.
        self.away = ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def key(self) -> dict[str, Any]:
        """Return the service account's key file."""
        return {
            "type": "service_account",
            "project_id": "earth-demo",
            "private_key_id": "1",
            "private_key": self.private_key,
            "client_email": "airflow@earth-demo.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{self._server.server_port}/token",
        }

    def airflow_connection(self, host: str, project: str = "earth-demo") -> str:
        """Return an Airflow connection with that key."""
        extra = {"project": project, "keyfile_dict": json.dumps(self.key())}
        return json.dumps({"conn_type": "earth_engine", "host": host, "extra": extra})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if tokens.away == "refused":
                    self.connection.shutdown(2)
                    return
                if tokens.away:
                    self.send_error(int(tokens.away))
                    return
                answer: dict[str, Any] = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
                if not tokens.revoked:
                    tokens.given += 1
                    answer = {"access_token": f"{TOKEN}-{tokens.given}", "expires_in": tokens.expires_in}
                body = json.dumps(answer).encode()
                self.send_response(400 if tokens.revoked else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return Handler

    def __enter__(self) -> TokenServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
