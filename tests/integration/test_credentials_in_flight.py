"""Credentials that expire, are revoked, or lack a permission while a task waits for an operation."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import ssl
import threading
from base64 import b64encode
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from eventually import eventually
from google.auth import environment_vars
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from loopback import LoopbackServer, send
from tokens import TOKEN, TokenServer

from airflow_ee_provider.earth_engine.auth.sessions import token_session
from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

#: Before 2.47, google-auth ignores ``GOOGLE_API_CERTIFICATE_CONFIG`` when it checks whether there is a certificate.
OLD_GOOGLE_AUTH = tuple(map(int, version("google-auth").split(".")[:2])) < (2, 47)


@pytest.fixture
def tokens(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    with TokenServer(expires_in=1) as server:
        connection = server.airflow_connection(earth_engine_emulator.url)
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", connection)
        yield server


@pytest.fixture
def service(tokens: TokenServer, earth_engine_emulator: Emulator) -> Service:  # noqa: ARG001 (sets the connection)
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    return earth_engine_emulator.service


def in_a_worker(name: str) -> dict[str, Any]:
    """Wait, and return the result in the form of a trigger's event."""
    try:
        return {"result": [EarthEngineHook().wait_for_operation(name, poll_interval=0.2).as_dict()]}
    except errors.EarthEngineError as error:
        return {"error": str(error), "permanent": error.permanent}


def in_the_triggerer(name: str) -> dict[str, Any]:
    trigger = EarthEngineOperationsTrigger(
        operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=0.2
    )

    async def wait() -> dict[str, Any]:
        async for event in trigger.run():
            found: dict[str, Any] = event.payload
        return found

    return asyncio.run(asyncio.wait_for(wait(), 30))


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_a_wait_continues_with_new_tokens(
    wait: Callable[[str], dict[str, Any]], service: Service, tokens: TokenServer
) -> None:
    name = service.add("x")
    real = service.get

    def finish_at_the_fourth_poll(asked: str) -> dict[str, Any]:
        if service.operations[name].reads >= 3:
            service.finish(name)
        return real(asked)

    service.get = finish_at_the_fourth_poll  # type: ignore[method-assign]

    event = wait(name)

    assert event["result"][0]["state"] == "SUCCEEDED"
    assert tokens.given > 2
    assert {entry["authorized"] for entry in service.journal} == {True}


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_revoked_credentials_end_the_wait_with_an_error_that_names_a_remedy(
    wait: Callable[[str], dict[str, Any]], service: Service, tokens: TokenServer
) -> None:
    name = service.add("x")
    real = service.get

    def revoke_after_the_first_look(asked: str) -> dict[str, Any]:
        tokens.revoked = True
        return real(asked)

    service.get = revoke_after_the_first_look  # type: ignore[method-assign]

    event = wait(name)

    assert event["permanent"]
    assert name in event["error"]
    assert "invalid_grant" in event["error"]
    assert "Check the connection's credentials" in event["error"]
    assert TOKEN not in event["error"]
    assert "PRIVATE KEY" not in event["error"]


def test_a_clean_up_logs_each_operation_that_it_could_not_cancel(
    service: Service, tokens: TokenServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    denied, revoked = service.add("x"), service.add("y")
    service.fail("permission_denied", path="*:cancel")

    for name in (denied, revoked):
        sensor = EarthEngineOperationsSensor(task_id="a", operation_names=[name], cancel_on_kill=True)
        sensor.hook.preload()
        sensor.on_kill()
        tokens.revoked = True

    captured = capfd.readouterr()
    log = captured.out + captured.err + caplog.text
    for name, why in ((denied, "earthengine.operations.update"), (revoked, "invalid_grant")):
        assert any(name in line and why in line and "It may still run" in line for line in log.splitlines())
    assert service.state(denied) == service.state(revoked) == "RUNNING"


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_a_key_that_is_rotated_while_the_task_waits_is_read_again(
    wait: Callable[[str], dict[str, Any]], service: Service, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = service.add("x")
    real = service.get

    def rotate_after_the_first_look(asked: str) -> dict[str, Any]:
        if service.operations[name].reads >= 3:
            service.finish(name)
        tokens.revoked = True
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", rotated)
        return real(asked)

    service.get = rotate_after_the_first_look  # type: ignore[method-assign]

    with TokenServer() as new:
        rotated = new.airflow_connection(json.loads(os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"])["host"])
        event = wait(name)

    assert event.get("result", [event])[0].get("state") == "SUCCEEDED", event
    assert new.given


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
@pytest.mark.parametrize("how", ["refused", "503"])
def test_a_wait_survives_a_token_server_that_is_briefly_unreachable(
    wait: Callable[[str], dict[str, Any]], how: str, service: Service, tokens: TokenServer
) -> None:
    name = service.add("x", run_seconds=2)
    tokens.away = how

    back = threading.Timer(2, setattr, (tokens, "away", ""))
    back.start()
    event = wait(name)

    assert event.get("result", [event])[0].get("state") == "SUCCEEDED", event


def test_a_kill_reads_no_connection(service: Service, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a signal handler, possibly during a request of the task to Airflow."""
    name = service.add("x")
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names=[name], cancel_on_kill=True)
    sensor.hook.preload()
    tokens.revoked = True
    monkeypatch.setattr(EarthEngineHook, "get_connection", lambda *_: pytest.fail("A connection was read."))

    sensor.on_kill()

    assert service.state(name) == "RUNNING"


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_workers_and_the_triggerer_trust_a_private_ca(
    wait: Callable[[str], dict[str, Any]], variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server does not know the operation; its 404 shows that it received the request."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with TlsServer(tmp_path) as server:
        connection = {"conn_type": "earth_engine", "host": server.url, "extra": {"project": "p", "is_anonymous": True}}
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
        refused = wait("projects/p/operations/A")
        monkeypatch.setenv(variable, str(server.certificate))
        accepted = wait("projects/p/operations/A")

    assert "TLS failed" in refused["error"]
    assert "404" in accepted["error"]


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_a_netrc_file_does_not_replace_the_token(
    wait: Callable[[str], dict[str, Any]], service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    name = service.add("x", run_seconds=0)

    event = wait(name)

    assert event["result"][0]["state"] == "SUCCEEDED"
    assert all(entry["authorized"] for entry in service.journal)


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_workers_and_the_triggerer_use_a_proxy_with_a_password(
    wait: Callable[[str], dict[str, Any]], earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy answers 404 to every request, which shows that a request went through it."""

    class Proxy(LoopbackServer):
        asked: ClassVar[set[str | None]] = set()

        def answer(self, request: BaseHTTPRequestHandler) -> None:
            self.asked.add(request.headers["Proxy-Authorization"])
            request.send_error(404)

    name = earth_engine_emulator.service.add("x", run_seconds=0, pending_seconds=0)
    with Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        around = wait(name)
        monkeypatch.setenv("NO_PROXY", "")
        through = wait(name)

    assert around["result"][0]["state"] == "SUCCEEDED"
    assert "404" in through["error"]
    assert proxy.asked == {f"Basic {b64encode(b'user:pass').decode()}"}


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_missing_certificates_are_an_error_that_names_the_variable(
    wait: Callable[[str], dict[str, Any]], earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert earth_engine_emulator
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")

    assert (
        "REQUESTS_CA_BUNDLE names certificates that do not exist" in wait("projects/earth-demo/operations/A")["error"]
    )


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
@pytest.mark.skipif(OLD_GOOGLE_AUTH, reason="google-auth looks for no certificate_config.json yet")
def test_a_client_certificate_that_google_auth_finds_is_sent(
    wait: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server requires a client certificate; its 404 shows that it received the request."""
    with TlsServer(tmp_path, wants_certificate=True) as server:
        connection = {"conn_type": "earth_engine", "host": server.url, "extra": {"project": "p", "is_anonymous": True}}
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
        config = server.show_to_google_auth(monkeypatch)
        shown = wait("projects/p/operations/A")
        config.unlink()
        gone = wait("projects/p/operations/A")

    assert "404" in shown["error"]
    assert "client certificate cannot be used" in gone["error"]


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
@pytest.mark.skipif(OLD_GOOGLE_AUTH, reason="google-auth looks for no certificate_config.json yet")
def test_a_workloads_certificate_is_sent_unless_a_variable_disables_it(
    wait: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with TlsServer(tmp_path) as server:
        connection = {"conn_type": "earth_engine", "host": server.url, "extra": {"project": "p", "is_anonymous": True}}
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
        server.show_to_google_auth(monkeypatch)
        server.key.unlink()  # So that an attempt to send it is an error.
        for variable, shows in (("", True), ("false", False), ("yes", False)):
            monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", variable)

            error = wait("projects/p/operations/A")["error"]

            assert ("client certificate cannot be used" in error) is shows


class Locations(LoopbackServer):
    """Google's list of an account's allowed locations, and an Earth Engine whose operation ends once it gets them."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        allowed = request.headers.get("x-allowed-locations")
        metadata = {"state": "SUCCEEDED" if allowed == "0xA30" else "RUNNING"}
        operation = {"name": "projects/p/operations/A", "metadata": metadata, "done": allowed == "0xA30"}
        locations = {"locations": ["europe-west1"], "encodedLocations": "0xA30"}
        send(request, json.dumps(locations if "allowedLocations" in request.path else operation).encode())


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_google_auth_finds_the_allowed_locations_of_an_account(
    wait: Callable[[str], dict[str, Any]], tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks in a thread, with a copy of the session that fetched the token; without a copy, it does not ask."""
    switch = getattr(environment_vars, "GOOGLE_SDK_EXPERIMENTAL_PYTHON_REGIONAL_ACCESS_BOUNDARY_LOOKUP_ENABLED", None)
    if switch is None:
        pytest.skip("google-auth has no regional access boundaries yet")
    monkeypatch.setenv(switch, "true")
    tokens.expires_in = 3600
    with Locations() as server:
        of_locations = f"{server.url}/allowedLocations"
        monkeypatch.setattr(
            service_account.Credentials, "_build_regional_access_boundary_lookup_url", lambda *_, **__: of_locations
        )
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", tokens.airflow_connection(server.url))

        assert wait("projects/p/operations/A")["result"][0]["state"] == "SUCCEEDED"


def test_google_auth_refreshes_a_token_in_a_separate_thread(tokens: TokenServer) -> None:
    """It copies the session for that, too; a copy that fails is an error of the request."""
    credentials = service_account.Credentials.from_service_account_info(tokens.key(), scopes=["x"])
    if not hasattr(credentials, "with_non_blocking_refresh"):
        pytest.skip("google-auth refreshes in no thread yet")
    request = Request(token_session())
    credentials.with_non_blocking_refresh()
    credentials.before_request(request, "GET", "https://earthengine.googleapis.com", {})
    before = tokens.given
    credentials.before_request(request, "GET", "https://earthengine.googleapis.com", {})  # Its token lives for 1 s.

    eventually(lambda: tokens.given > before, "another token", within=60)


@pytest.mark.skipif(OLD_GOOGLE_AUTH, reason="google-auth looks for no certificate_config.json yet")
def test_a_copy_of_a_session_sends_the_same_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with TlsServer(tmp_path, wants_certificate=True) as server:
        server.show_to_google_auth(monkeypatch)
        with token_session() as session:
            copied = copy.deepcopy(Request(session))
        assert copied(server.url).status == 404


class TlsServer(LoopbackServer):
    """Answers 404 to everything, with a certificate of its own."""

    def __init__(self, folder: Path, *, wants_certificate: bool = False) -> None:
        self.certificate, self.key = folder / "ca.pem", folder / "key.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if wants_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificate)
        super().__init__(context)

    def show_to_google_auth(self, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Let the client trust the server's certificate and send it as its own; return google-auth's file."""
        workload = {"cert_path": str(self.certificate), "key_path": str(self.key)}
        config = self.certificate.parent / "certificate_config.json"
        config.write_text(json.dumps({"cert_configs": {"workload": workload}}), encoding="utf-8")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(self.certificate))
        monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(config))
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
        return config
