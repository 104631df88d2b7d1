"""The two drivers: they carry out what a flow yields, with requests or with aiohttp, and know no rules."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlencode

from airflow_ee_provider.earth_engine.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.protocol import Flow, NoAnswer, Note, Now, Request, Response, Sleep

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import aiohttp
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

T = TypeVar("T")


class Log(Protocol):
    """What of a logger is needed: one of the standard library's or one of Airflow's."""

    def info(self, message: str, /, *args: Any) -> Any:
        """Write a line."""

    def warning(self, message: str, /, *args: Any) -> Any:
        """Write a line that somebody should see."""

    def error(self, message: str, /, *args: Any) -> Any:
        """Write a line that somebody must see."""


#: Seconds for connecting, and for each read.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0


def _url(base_url: str, request: Request) -> str:
    return f"{base_url}/{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")


def _headers(request: Request) -> dict[str, str]:
    return {"Accept": "application/json"} | ({"Content-Type": "application/json"} if request.body else {})


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

    def send(self, request: Request) -> Response | NoAnswer:
        """Send one request, once."""
        import requests
        from google.auth.exceptions import GoogleAuthError

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
        return Response(answer.status_code, answer.content, {k.lower(): v for k, v in answer.headers.items()})


class AiohttpTransport:
    """Sends with an aiohttp session; the token is refreshed in a thread, never on the event loop."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, credentials: Credentials) -> None:
        self._session = session
        self._base_url = base_url
        self._credentials = credentials
        self._refreshing = asyncio.Lock()

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
        async with self._session.request(
            request.method,
            _url(self._base_url, request),
            data=request.body,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            return Response(answer.status, await answer.read(), {k.lower(): v for k, v in answer.headers.items()})

    async def _authorize(self, request: Request, refused: dict[str, str] | None = None) -> dict[str, str]:
        """Return the request's headers with a token, another one than was ``refused``."""
        headers = _headers(request)
        async with self._refreshing:
            # Many requests can be refused for the same old token: only the first of them refreshes it.
            stale = refused and refused.get("authorization") == f"Bearer {getattr(self._credentials, 'token', None)}"
            await asyncio.to_thread(self._apply, headers, _url(self._base_url, request), refresh=bool(stale))
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


#: The event loop itself holds its tasks by weak references only.
_UNDER_WAY: set[asyncio.Task[Any]] = set()


def in_background(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run a coroutine to its end, whoever stops waiting for it."""
    task = asyncio.create_task(coroutine)
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
    return task


def run(flow: Flow[T], transport: RequestsTransport, log: Log) -> T:
    """Drive a flow to its result."""
    answer: Any = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = None
        if isinstance(effect, Request):
            answer = transport.send(effect)
        elif isinstance(effect, Sleep):
            time.sleep(effect.seconds)
        else:
            answer = _at_once(effect, log)


async def run_async(flow: Flow[T], transport: AiohttpTransport, log: Log) -> T:
    """Drive a flow to its result on the event loop."""
    answer: Any = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = None
        if isinstance(effect, Request):
            answer = await transport.send(effect)
        elif isinstance(effect, Sleep):
            await asyncio.sleep(effect.seconds)
        else:
            answer = _at_once(effect, log)


def _at_once(effect: Now | Note, log: Log) -> float | None:
    if isinstance(effect, Now):
        return time.monotonic()
    write = log.warning if effect.warning else log.info
    write("%s", effect.message)
    return None
