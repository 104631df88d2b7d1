"""Send a request and return what came back, with requests or with aiohttp; no rules."""

from __future__ import annotations

import asyncio
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from airflow_ee_provider.earth_engine.effects import NoAnswer, Request, Response
from airflow_ee_provider.earth_engine.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.pace import CONCURRENT, Pace

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

#: Seconds for connecting, and for each read.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0


def _url(base_url: str, request: Request) -> str:
    return f"{base_url}/{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")


def _headers(request: Request) -> dict[str, str]:
    return {"Accept": "application/json"} | ({"Content-Type": "application/json"} if request.body else {})


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    """Return an answer, dated by whoever received it where the server has not (RFC 9110, 6.6.1)."""
    received = {name.lower(): value for name, value in headers.items()}
    if "date" not in received:
        received["date"] = formatdate(usegmt=True)
    return Response(status, body, received)


def _no_token(error: Exception) -> NoAnswer:
    """No request was sent, because google-auth got no token for it."""
    reason = f"no access token could be had: {error}"
    if getattr(error, "retryable", False):
        return NoAnswer(reason)
    return NoAnswer(reason, CredentialsError, "Check the connection's credentials: they may be revoked or expired.")


def _insecure(error: Exception) -> NoAnswer:
    return NoAnswer(f"TLS failed: {error}", EarthEngineError, "Check the host's certificate and this machine's clock.")


class RequestsTransport:
    """Sends with a google-auth `AuthorizedSession`.

    :param base_url: for example ``https://earthengine.googleapis.com/v1``.
    """

    def __init__(self, session: AuthorizedSession, base_url: str) -> None:
        self._session = session
        self._base_url = base_url
        self._pace = Pace()
        self._turn = threading.Lock()

    def send(self, request: Request) -> Response | NoAnswer:
        """Send one request, once."""
        import requests
        from google.auth.exceptions import GoogleAuthError

        with self._turn:
            while delay := self._pace.delay(time.monotonic()):
                time.sleep(delay)
        try:
            answer = self._session.request(
                request.method,
                _url(self._base_url, request),
                data=request.body,
                headers=_headers(request),
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                allow_redirects=False,
            )
        except GoogleAuthError as error:
            return _no_token(error)
        except requests.exceptions.SSLError as error:
            return _insecure(error)
        except requests.RequestException as error:
            return NoAnswer(f"{type(error).__name__}: {error}")
        self._pace.answered(answer.status_code, time.monotonic())
        return _response(answer.status_code, answer.content, answer.headers)


class AiohttpTransport:
    """Sends with an aiohttp session; the token is refreshed in a thread, never on the event loop."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, credentials: Credentials) -> None:
        self._session = session
        self._base_url = base_url
        self._credentials = credentials
        self._refreshing = asyncio.Lock()
        self._pace = Pace()
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(CONCURRENT)

    async def send(self, request: Request) -> Response | NoAnswer:
        """Send one request; once more with a fresh token if the server does not accept the one it had."""
        import aiohttp
        from google.auth.exceptions import GoogleAuthError

        try:
            headers = await self._authorize(request)
            answer = await self._send(request, headers)
            if answer.status == 401:
                answer = await self._send(request, await self._authorize(request, refused=headers))
        except GoogleAuthError as error:
            return _no_token(error)
        except aiohttp.ClientSSLError as error:
            return _insecure(error)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return NoAnswer(f"{type(error).__name__}: {error}")
        return answer

    async def _send(self, request: Request, headers: dict[str, str]) -> Response:
        async with self._places:
            async with self._turn:
                while delay := self._pace.delay(time.monotonic()):  # noqa: ASYNC110 (it is a clock that is waited for)
                    await asyncio.sleep(delay)
            async with self._session.request(
                request.method,
                _url(self._base_url, request),
                data=request.body,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                self._pace.answered(answer.status, time.monotonic())
                return _response(answer.status, await answer.read(), answer.headers)

    async def _authorize(self, request: Request, refused: dict[str, str] | None = None) -> dict[str, str]:
        """Return the request's headers with a token, another one than was ``refused``."""
        headers = _headers(request)
        url = _url(self._base_url, request)
        if self._credentials.valid and not refused:
            self._apply(headers, url, refresh=False)  # The token is there: nothing blocks.
            return headers
        async with self._refreshing:
            # Many requests can be refused for the same old token: only the first of them refreshes it.
            stale = refused and refused.get("authorization") == f"Bearer {getattr(self._credentials, 'token', None)}"
            await asyncio.to_thread(self._apply, headers, url, refresh=bool(stale))
        return headers

    def _apply(self, headers: dict[str, str], url: str, *, refresh: bool) -> None:
        from google.auth.transport.requests import Request as AuthRequest

        auth_request = AuthRequest()
        if refresh:
            self._credentials.refresh(auth_request)
        self._credentials.before_request(auth_request, "GET", url, headers)


def aiohttp_session() -> aiohttp.ClientSession:
    """Open the session that an `AiohttpTransport` sends with."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
    return aiohttp.ClientSession(timeout=timeout, trust_env=True)  # As requests, it heeds the proxies' variables.
