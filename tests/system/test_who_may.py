"""A user who may edit connections but not see their keys gets no token, no file and no other server's response."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import requests
from loopback import LoopbackServer, send
from tokens import TokenServer

from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

pytestmark = pytest.mark.system


class EditorsAirflow(StandaloneAirflow):
    """An API server alone, whose only user may edit its connections, and no more."""

    healthy_parts: ClassVar[tuple[str, ...]] = ("metadatabase",)
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"api-server": StandaloneAirflow.parts["api-server"]}

    @cached_property
    def authorization(self) -> str:
        generated = self.home / "simple_auth_manager_passwords.json.generated"
        password = json.loads(generated.read_text(encoding="utf-8"))["editor"]
        credentials = {"username": "editor", "password": password}
        return f"Bearer {requests.post(f'{self.url}/auth/token', json=credentials, timeout=30).json()['access_token']}"


@pytest.fixture(scope="module")
def editors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneAirflow]:
    base = tmp_path_factory.mktemp("editors")
    settings = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "editor:op",
        # The host of the tests' token server, which the key names; the editor's server has another host.
        "AIRFLOW__EARTH_ENGINE__ALLOWED_HOSTS": "localhost",
    }
    with EditorsAirflow(base / "airflow", base, settings) as running:
        yield running


class Elsewhere(LoopbackServer):
    """A server of the editor's, or an internal one that the editor must not reach; it keeps the headers of requests."""

    SAYS = "what-is-said-inside"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, str]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(dict(request.headers))
        send(request, self.SAYS.encode())


def keep(editors: StandaloneAirflow, connection: str, extra: dict[str, Any]) -> None:
    body = {"connection_id": connection, "conn_type": "earth_engine", "extra": json.dumps(extra)}
    editors.call("POST", "/connections", body)


def press_test(editors: StandaloneAirflow, connection: str) -> dict[str, Any]:
    """Press the Test button in the form of a saved connection."""
    shown = editors.call("GET", f"/connections/{connection}")
    body = {name: shown.get(name) for name in ("connection_id", "conn_type", "host", "port", "extra")}
    answer: dict[str, Any] = editors.call("POST", "/connections/test", body)
    return answer


@pytest.mark.parametrize("field", ["host", "extra"])
def test_another_host_gets_no_token(editors: StandaloneAirflow, field: str) -> None:
    connection = f"edited_{field}"
    with TokenServer() as tokens, Elsewhere() as elsewhere:
        key = {**tokens.key(), "token_uri": tokens.key()["token_uri"].replace("127.0.0.1", "localhost")}
        extra = {"project": "earth-demo", "keyfile_dict": json.dumps(key)}
        keep(editors, connection, extra)
        assert "PRIVATE KEY" not in json.dumps(editors.call("GET", f"/connections/{connection}"))

        shown = editors.call("GET", f"/connections/{connection}")
        edited = {"host": elsewhere.url} if field == "host" else {"extra": shown["extra"]}
        if field == "extra":
            edited["extra"] = json.dumps({**json.loads(shown["extra"]), "host": elsewhere.url})
        body = {"connection_id": connection, "conn_type": "earth_engine", **edited}
        editors.call("PATCH", f"/connections/{connection}?update_mask={field}", body)
        answer = press_test(editors, connection)

    assert answer["status"] is False
    assert "no token was sent to it" in answer["message"]
    assert elsewhere.asked == []
    assert tokens.given == 0


@pytest.mark.parametrize("source", ["file", "url"])
def test_pasted_federation_reads_no_file_and_no_url(editors: StandaloneAirflow, source: str) -> None:
    with Elsewhere() as elsewhere:
        federation = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{elsewhere.url}/token",
            "credential_source": {"file": "/etc/passwd"} if source == "file" else {"url": elsewhere.url},
        }
        keep(editors, f"federation_{source}", {"project": "p", "keyfile_dict": json.dumps(federation)})

        answer = press_test(editors, f"federation_{source}")

    assert answer["status"] is False
    assert "taken from files only" in answer["message"]
    assert elsewhere.asked == []


def test_key_with_another_token_server_than_googles_is_refused(editors: StandaloneAirflow) -> None:
    with TokenServer() as tokens, Elsewhere() as inside:
        key = {**tokens.key(), "token_uri": inside.url}
        keep(editors, "key_inside", {"project": "p", "keyfile_dict": json.dumps(key)})

        answer = press_test(editors, "key_inside")

    assert answer["status"] is False
    assert "token_uri" in answer["message"]
    assert Elsewhere.SAYS not in answer["message"]
    assert inside.asked == []
