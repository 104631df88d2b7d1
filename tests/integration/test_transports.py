"""The transports: tokens, redirects, hosts that do not answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession

from airflow_ee_provider.earth_engine.auth.credentials import open_account
from airflow_ee_provider.earth_engine.auth.settings import ConnectionSettings
from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.api_methods import get_operation, list_operations
from airflow_ee_provider.earth_engine.protocol.effects import Request
from airflow_ee_provider.earth_engine.protocol.retries import call
from airflow_ee_provider.earth_engine.transport import drivers, transports
from airflow_ee_provider.earth_engine.transport.request_errors import unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.emulator import Emulator

LOG = logging.getLogger(__name__)


class Tokens(Credentials):  # type: ignore[misc]
    """Credentials that refresh as those of a service account do, without a server."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.refreshed = 0
        self._error = error

    def refresh(self, request: Any) -> None:
        if self._error:
            raise self._error
        self.refreshed += 1
        self.token = f"token-{self.refreshed}"


@pytest.fixture
def account(earth_engine_emulator: Emulator) -> Account:
    settings = ConnectionSettings(project="earth-demo", host=earth_engine_emulator.url, is_anonymous=True)
    return replace(open_account(settings), credentials=Tokens())


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def run_sync(account: Account, flow: Any) -> Any:
        with AuthorizedSession(account.credentials) as session:
            return drivers.run(flow, transports.RequestsTransport(session, account.base_url), LOG)

    async def run_async(account: Account, flow: Any) -> Any:
        async with await transports.aiohttp_session() as session:
            transport = transports.AiohttpTransport(session, account.base_url, account.credentials)
            return await drivers.run_async(flow, transport, LOG)

    return run_sync if request.param == "sync" else lambda account, flow: asyncio.run(run_async(account, flow))


def test_a_token_that_is_refused_is_refreshed_once(
    run: Callable[..., Any], account: Account, earth_engine_emulator: Emulator
) -> None:
    run(account, list_operations(account.project))
    earth_engine_emulator.service.fail("unauthenticated")

    assert run(account, list_operations(account.project)).operations == []
    assert account.credentials.refreshed == 2


def test_credentials_that_are_never_accepted_are_an_error_with_a_remedy(
    run: Callable[..., Any], account: Account, earth_engine_emulator: Emulator
) -> None:
    earth_engine_emulator.service.fail("unauthenticated", times=None)

    with pytest.raises(errors.CredentialsError, match="Check the connection's credentials") as caught:
        run(account, list_operations(account.project))

    assert "token-" not in str(caught.value)


def test_credentials_that_were_revoked_are_an_error_with_a_remedy(run: Callable[..., Any], account: Account) -> None:
    revoked = replace(account, credentials=Tokens(RefreshError("invalid_grant: Token has been revoked.")))

    with pytest.raises(
        errors.CredentialsError, match=r"RefreshError: invalid_grant. Check the connection's credentials"
    ):
        run(revoked, list_operations(account.project))


def test_a_host_that_does_not_answer_is_a_transient_error(run: Callable[..., Any], account: Account) -> None:
    nowhere = replace(account, base_url="http://127.0.0.1:9/v1")

    said = (
        r"No answer from Earth Engine to GET: 127\.0\.0\.1:9 refuses connections\. Check the connection's host and port"
    )
    with pytest.raises(errors.TransientError, match=said):
        run(nowhere, call(Request("GET", "projects/earth-demo/operations", "projects/earth-demo", repeatable=False)))


def test_an_unknown_host_is_named(run: Callable[..., Any], account: Account) -> None:
    nowhere = replace(account, base_url="http://earthengine.invalid/v1")

    with pytest.raises(
        errors.TransientError, match=r"the host name in earthengine\.invalid cannot be resolved\. Check"
    ):
        run(nowhere, call(Request("GET", "projects/earth-demo/operations", "projects/earth-demo", repeatable=False)))


def test_the_error_of_a_broken_connection_has_the_librarys_message() -> None:
    assert unreachable(ConnectionResetError("reset"), "https://host/v1").reason == "ConnectionResetError: reset"
    assert unreachable(TimeoutError(), "https://host:1/v1").reason == "host:1 has not answered in time"


def test_a_certificate_that_cannot_be_verified_is_a_permanent_error(
    run: Callable[..., Any], account: Account, earth_engine_emulator: Emulator
) -> None:
    insecure = replace(account, base_url=account.base_url.replace("http://", "https://"))

    with pytest.raises(errors.EarthEngineError, match="TLS failed") as caught:
        run(insecure, get_operation(OperationName("earth-demo", "ABC")))

    assert caught.value.permanent
    assert not earth_engine_emulator.service.journal


class _Redirecting(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


class _Undated(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextmanager
def served(account: Account, handler: type[BaseHTTPRequestHandler]) -> Iterator[Account]:
    """Run another server in Earth Engine's place."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield replace(account, base_url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_redirect_is_not_followed(run: Callable[..., Any], account: Account) -> None:
    _Redirecting.asked.clear()
    with served(account, _Redirecting) as elsewhere, pytest.raises(errors.InvalidRequestError):
        run(elsewhere, get_operation(OperationName("earth-demo", "ABC")))

    assert _Redirecting.asked == ["/projects/earth-demo/operations/ABC"]


def test_a_response_without_a_date_is_dated_when_it_is_received(run: Callable[..., Any], account: Account) -> None:
    with served(account, _Undated) as elsewhere:
        listing = run(elsewhere, list_operations("earth-demo"))

    assert abs(datetime.now(timezone.utc) - listing.read_at) < timedelta(minutes=1)
