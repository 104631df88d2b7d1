"""A token server, and a service account's key that names it: google-auth runs unchanged, without Google's servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from loopback import LoopbackServer, send

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

#: The prefix of all access tokens.
TOKEN = "ya29.a-token-that-nobody-must-see"  # noqa: S105


class TokenServer(LoopbackServer):
    """Responds with access tokens; a context manager.

    :param expires_in: seconds that a token is valid. google-auth replaces one that has less than four minutes left.
    """

    def __init__(self, expires_in: int = 3600) -> None:
        self.expires_in = expires_in
        self.given = 0
        self.revoked = False
        #: The kind of outage: ``refused`` (the connection is cut) or ``503``; empty if there is none.
        self.away = ""
        super().__init__()
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
            "token_uri": f"{self.url}/token",
        }

    def airflow_connection(self, host: str, project: str = "earth-demo") -> str:
        """Return an Airflow connection with the service account's key."""
        extra = {"project": project, "keyfile_dict": json.dumps(self.key())}
        return json.dumps({"conn_type": "earth_engine", "host": host, "extra": extra})

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Respond with a token or an error, or cut the connection."""
        request.rfile.read(int(request.headers["Content-Length"]))
        if self.away == "refused":
            request.connection.shutdown(2)
        elif self.away:
            request.send_error(int(self.away))
        elif self.revoked:
            refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            send(request, json.dumps(refused).encode(), 400)
        else:
            self.given += 1
            answer = {"access_token": f"{TOKEN}-{self.given}", "expires_in": self.expires_in}
            send(request, json.dumps(answer).encode())


#: A workload identity federation's configuration, as Google creates it.
FEDERATION = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/token"},
}
