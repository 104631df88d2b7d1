"""Send a request and return the response, with requests or with aiohttp. The rules for responses are in the flows."""

from __future__ import annotations

import asyncio
import threading
import time
from email.utils import formatdate
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from airflow_ee_provider.earth_engine.auth.google_auth_errors import is_transient, redacted_summary
from airflow_ee_provider.earth_engine.auth.sessions import proxy_for, tls_context, token_session
from airflow_ee_provider.earth_engine.model import limits
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request, Response
from airflow_ee_provider.earth_engine.transport import bodies
from airflow_ee_provider.earth_engine.transport.rate_limiter import RateLimiter
from airflow_ee_provider.earth_engine.transport.request_errors import unexpected, unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import aiohttp
    import requests
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

#: How often a refused token is refreshed, as in google-auth's own session; and the seconds between two reads of a
#: connection whose credentials are refused.
REFRESHES, RENEW_INTERVAL = 2, 60.0


def _url(base_url: str, request: Request) -> str:
    return f"{base_url}/{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")


def _headers(request: Request) -> dict[str, str]:
    accepted = {"Accept": "application/json", "Accept-Encoding": bodies.ACCEPTED}
    return accepted | ({"Content-Type": "application/json"} if request.body else {})


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    """Return a response; its ``Date`` is this machine's time if the server sent none (RFC 9110, 6.6.1)."""
    received = {name.lower(): value for name, value in headers.items()}
    if "date" not in received:
        received["date"] = formatdate(usegmt=True)
    return Response(status, body, received)


def no_token(error: Exception) -> NoResponse:
    """Return the result for a request that was not sent, because google-auth got no token for it.

    It contains no words of the token server but those that OAuth defines, since a connection can name any server.
    """
    reason = f"could not get an access token: {redacted_summary(error)}"
    if is_transient(error):
        return NoResponse(reason)
    return NoResponse(reason, CredentialsError, "Check the connection's credentials: they may be revoked or expired.")


def _insecure(error: Exception) -> NoResponse:
    return NoResponse(
        f"TLS failed: {error}", EarthEngineError, "Check the host's certificate and this machine's clock."
    )


class SyncTransport(Protocol):
    """Sends a request, once."""

    def send(self, request: Request) -> Response | NoResponse:
        """Return the response."""


class RequestsTransport:
    """Sends with a google-auth `AuthorizedSession`.

    :param base_url: For example ``https://earthengine.googleapis.com/v1``.
    :param renew: Called if Earth Engine refuses the credentials. Reads the connection again and returns a session with
        its present credentials; None if they are the same.
    """

    def __init__(
        self,
        session: AuthorizedSession,
        base_url: str,
        renew: Callable[[], AuthorizedSession | None] = lambda: None,
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._renew = renew
        self._is_renewed: bool | None = None  # None until a request is refused.
        self._limiter = RateLimiter()
        self._turn = threading.Lock()

    def send(self, request: Request) -> Response | NoResponse:
        """Send one request; a second time with new credentials if Earth Engine refuses the present ones."""
        answer = self._send(request)
        if _is_refused(answer) and self._renewed():
            answer = self._send(request)
        return answer

    def _renewed(self) -> bool:
        with self._turn:
            if self._is_renewed is None:  # If many requests are refused, only the first one renews.
                session = self._renew()
                self._is_renewed = session is not None
                self._session = session or self._session
            return self._is_renewed

    def _send(self, request: Request) -> Response | NoResponse:
        import requests
        from google.auth.exceptions import GoogleAuthError
        from urllib3.exceptions import HTTPError

        with self._turn:
            while delay := self._limiter.delay(time.monotonic()):
                time.sleep(delay)
        try:
            answer = self._session.request(
                request.method,
                _url(self._base_url, request),
                data=request.body,
                headers=_headers(request),
                timeout=(limits.CONNECT_TIMEOUT, limits.READ_TIMEOUT),
                allow_redirects=False,
                stream=True,
            )
            with answer:
                body = _read(answer)
        except GoogleAuthError as error:
            return no_token(error)
        except requests.exceptions.SSLError as error:
            return _insecure(error)
        except (requests.RequestException, HTTPError) as error:
            return unreachable(error, self._base_url)
        except Exception as error:  # noqa: BLE001 (see `unexpected`)
            return unexpected(error)
        self._limiter.answered(answer.status_code, time.monotonic())
        return body if isinstance(body, NoResponse) else _response(answer.status_code, body, answer.headers)


def _read(answer: requests.Response) -> bytes | NoResponse:
    """Read a response's body in pieces, up to the limits of `bodies.Body`."""
    from airflow_ee_provider.earth_engine.auth.bounded_http import pieces

    body = bodies.Body(answer.headers)
    if refused := body.refused():
        return refused
    for piece in pieces(answer.raw, unpacked=False):
        if refused := body.add(piece):
            return refused
    return body.whole()


def _is_refused(answer: Response | NoResponse) -> bool:
    """Whether Earth Engine or the token server refuses the credentials."""
    if isinstance(answer, NoResponse):
        return issubclass(answer.error, CredentialsError)
    return answer.status == 401


class AiohttpTransport:
    """Sends with an aiohttp session. The token is refreshed in a thread, never on the event loop.

    :param renew: Called if the credentials are refused. Returns the connection's present ones, or None.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        credentials: Credentials,
        renew: Callable[[], Awaitable[Credentials | None]] | None = None,
    ) -> None:
        self._session = session
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._asked = float("-inf")
        self._base_url = base_url
        self._proxy = proxy_for(base_url)
        self._credentials = credentials
        self._refreshing = asyncio.Lock()
        self._limiter = RateLimiter()
        self._turn = asyncio.Lock()
        self._places = asyncio.Semaphore(limits.CONCURRENT)

    async def send(self, request: Request) -> Response | NoResponse:
        """Send one request; a second time with new credentials if Earth Engine refuses the present ones."""
        before = self._credentials
        answer = await self._send_authorized(request)
        if _is_refused(answer) and await self._renewed(before):
            answer = await self._send_authorized(request)
        return answer

    async def _renewed(self, refused: Credentials) -> bool:
        """Read the connection again: once for many refused requests, and at most once a minute."""
        async with self._renewing:
            now = time.monotonic()
            if self._credentials is refused and self._renew is not None and now - self._asked >= RENEW_INTERVAL:
                self._asked = now
                self._credentials = await self._renew() or refused
            return self._credentials is not refused

    async def _send_authorized(self, request: Request) -> Response | NoResponse:
        """Send one request; up to twice more with a fresh token if the server refuses the present one."""
        import aiohttp
        from google.auth.exceptions import GoogleAuthError

        try:
            headers = await self._authorize(request)
            answer = await self._send(request, headers)
            for _ in range(REFRESHES):
                if _is_refused(answer):
                    headers = await self._authorize(request, refused=headers)
                    answer = await self._send(request, headers)
        except GoogleAuthError as error:
            return no_token(error)
        except aiohttp.ClientSSLError as error:
            return _insecure(error)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            return unreachable(error, self._base_url)
        except Exception as error:  # noqa: BLE001 (see `unexpected`)
            return unexpected(error)
        return answer

    async def _send(self, request: Request, headers: dict[str, str]) -> Response | NoResponse:
        async with self._places:
            async with self._turn:
                while delay := self._limiter.delay(time.monotonic()):  # noqa: ASYNC110 (it waits for time to pass)
                    await asyncio.sleep(delay)
            async with self._session.request(
                request.method,
                _url(self._base_url, request),
                data=request.body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
            ) as answer:
                self._limiter.answered(answer.status, time.monotonic())
                body = bodies.Body(answer.headers)
                if refused := body.refused():
                    return refused
                async for piece in answer.content.iter_any():
                    if refused := body.add(piece):
                        return refused
                whole = body.whole()
                return whole if isinstance(whole, NoResponse) else _response(answer.status, whole, answer.headers)

    async def _authorize(self, request: Request, refused: dict[str, str] | None = None) -> dict[str, str]:
        """Return the request's headers with a token other than the ``refused`` one."""
        headers = _headers(request)
        url = _url(self._base_url, request)
        if self._credentials.valid and not refused:
            self._apply(headers, url, refresh=False)  # The token is valid, so this does not block.
            return headers
        async with self._refreshing:
            # If many requests are refused for the same token, only the first one refreshes it.
            stale = refused and refused.get("authorization") == f"Bearer {getattr(self._credentials, 'token', None)}"
            try:
                await asyncio.to_thread(self._apply, headers, url, refresh=bool(stale))
            finally:
                # A connection that dies in silence before the next refresh, in an hour, would block it for minutes.
                self._token_server.session.close()
        return headers

    @cached_property
    def _token_server(self) -> Any:
        """Sends to the token server. Creating it takes a millisecond, too long for each request of an event loop."""
        from google.auth.transport.requests import Request as AuthRequest

        return AuthRequest(token_session())

    def _apply(self, headers: dict[str, str], url: str, *, refresh: bool) -> None:
        if refresh:
            self._credentials.refresh(self._token_server)
        self._credentials.before_request(self._token_server, "GET", url, headers)


async def aiohttp_session() -> aiohttp.ClientSession:
    """Open a session for an `AiohttpTransport`. It trusts the certificates of `tls_context`."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=limits.ANSWER_TIMEOUT, sock_connect=limits.CONNECT_TIMEOUT, sock_read=limits.READ_TIMEOUT
    )
    connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(tls_context))
    # Not `trust_env`: it would also read a `netrc` file.
    return aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
