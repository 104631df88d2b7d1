"""The two drivers: they carry out what a flow yields, with requests or with aiohttp, and know no rules."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlencode

from airflow_ee_provider.earth_engine.effects import (
    Flow,
    Look,
    NoAnswer,
    Note,
    Now,
    Request,
    Response,
    Sleep,
    Together,
)
from airflow_ee_provider.earth_engine.errors import CredentialsError, EarthEngineError
from airflow_ee_provider.earth_engine.looking import look_up
from airflow_ee_provider.earth_engine.pace import CONCURRENT, Pace

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    import aiohttp
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

    from airflow_ee_provider.earth_engine.looking import Seen

T = TypeVar("T")
Looker = Callable[[Look], Awaitable["Seen"]]


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


def _response(status: int, body: bytes, headers: Mapping[str, str]) -> Response:
    """Return an answer, dated by whoever received it where the server has not (RFC 9110, 6.6.1)."""
    received = {name.lower(): value for name, value in headers.items()}
    return Response(status, body, {"date": formatdate(usegmt=True), **received})


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
        elif isinstance(effect, Look):
            time.sleep(effect.after)
            answer = run(look_up(effect.names), transport, log)
        elif isinstance(effect, Together):
            answer = _in_threads(effect.flows, transport, log)
        else:
            answer = _at_once(effect, log)


def _in_threads(flows: Sequence[Flow[T]], transport: RequestsTransport, log: Log) -> list[T]:
    if len(flows) < 2:
        return [run(flow, transport, log) for flow in flows]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(flows), CONCURRENT), thread_name_prefix="earth-engine") as threads:
        return list(threads.map(lambda flow: run(flow, transport, log), flows))


async def run_async(flow: Flow[T], transport: AiohttpTransport, log: Log, look: Looker | None = None) -> T:
    """Drive a flow to its result on the event loop.

    :param look: carries out what is to be looked at, in place of the transport's own requests.
    """
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
        elif isinstance(effect, Look) and look is not None:
            answer = await look(effect)
        elif isinstance(effect, Look):
            await asyncio.sleep(effect.after)
            answer = await run_async(look_up(effect.names), transport, log)
        elif isinstance(effect, Together):
            answer = await asyncio.gather(*(run_async(flow, transport, log, look) for flow in effect.flows))
        else:
            answer = _at_once(effect, log)


def _at_once(effect: Now | Note, log: Log) -> float | None:
    if isinstance(effect, Now):
        return time.monotonic()
    write = log.warning if effect.warning else log.info
    write("%s", effect.message)
    return None
