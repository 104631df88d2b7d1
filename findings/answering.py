"""A server on this machine that answers in Earth Engine's place. The findings start it, and send the clients to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What a server answers: the status and the JSON; None to close the connection without an answer.
Answer = tuple[int, dict[str, Any]] | None

#: The parameters of the methods that list.
PAGE = {"pageSize": "integer", "pageToken": "string"}


def method(name: str, verb: str, path: str, parameter: str = "name", query: dict[str, str] | None = None) -> Any:
    """Describe a method as the API's discovery document does; ``parameter`` is the one in its path."""
    parameters = {parameter: {"type": "string", "location": "path", "required": True}}
    parameters |= {one: {"type": kind, "location": "query"} for one, kind in (query or {}).items()}
    body = {"request": {"$ref": "Any"}} if verb == "POST" else {}
    about = {"id": name, "httpMethod": verb, "path": f"v1/{path}", "response": {"$ref": "Any"}, **body}
    return {**about, "parameters": parameters, "parameterOrder": [parameter]}


def serve(answer: Callable[[str, str, Any], Answer], **resources: dict[str, Any]) -> str:
    """Start the server, and return its address.

    :param answer: Returns the answer to a verb, a path with its query, and a decoded body.
    :param resources: The methods of each resource below `projects`, by their names.
    """
    any_object = {"id": "Any", "type": "object", "properties": {"nextPageToken": {"type": "string"}}}
    methods = {name: {"methods": ones} for name, ones in resources.items()}

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send((200, description) if self.path.startswith("/$discovery") else answer("GET", self.path, None))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            is_json = self.headers["Content-Type"].startswith("application/json")
            self._send(answer("POST", self.path, json.loads(text) if is_json and text else None))

        def _send(self, answered: Answer) -> None:
            if answered is None:
                self.connection.shutdown(2)
                return
            text = json.dumps(answered[1]).encode()
            self.send_response(answered[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    url = f"http://127.0.0.1:{server.server_port}"
    description = {
        "name": "earthengine",
        "version": "v1",
        "servicePath": "",
        "batchPath": "batch",
        "rootUrl": f"{url}/",
        "baseUrl": f"{url}/",
        "schemas": {"Any": any_object},
        "resources": {"projects": {"resources": methods}},
        "parameters": {"prettyPrint": {"type": "boolean", "location": "query"}},
    }
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return url


def error(code: int, status: str, message: str) -> Answer:
    """Return an answer that refuses a request."""
    return code, {"error": {"code": code, "status": status, "message": message}}


def configuration(folder: Path, url: str) -> str:
    """Write what the ``earthengine`` command needs to log in, and return the path of its configuration."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(*form).decode()
    email, file = "a@p.example", folder / "key.json"
    account = {"type": "service_account", "client_email": email, "private_key": key, "private_key_id": "k"}
    file.write_text(json.dumps({**account, "project_id": "p", "token_uri": f"{url}/token"}))
    written = folder / "config.json"
    written.write_text(json.dumps({"url": url, "project": "p", "account": email, "private_key": str(file)}))
    return str(written)


#: The answer to a request for a token.
TOKEN: Answer = (200, {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})
