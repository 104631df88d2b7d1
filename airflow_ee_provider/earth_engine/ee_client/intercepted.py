"""The transport of the official client inside a task. It has httplib2's interface, which the client expects.

It passes each request to the `EeSession` first. The `EeSession` carries out the requests that start operations.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_ee_provider.earth_engine.auth.sessions import requests_session
from airflow_ee_provider.earth_engine.model.limits import CONNECT_TIMEOUT
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request, Response
from airflow_ee_provider.earth_engine.transport.transports import no_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_ee_provider.earth_engine.ee_client.session import EeSession

#: The longest that a request of the client may take, in seconds. Earth Engine ends interactive ones after five minutes.
REQUEST_TIMEOUT = 330.0


class PassthroughSender:
    """Sends this package's requests through the client's transport, and keeps the last response."""

    def __init__(self, send: Callable[..., tuple[Any, bytes]], base: str, headers: Mapping[str, str]) -> None:
        self._send, self._base = send, base
        self._headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
        self.last: Response | None = None

    def send(self, request: Request) -> Response | NoResponse:
        """Send one request, once."""
        import httplib2
        from google.auth.exceptions import GoogleAuthError

        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = {**self._headers, **({"content-type": "application/json"} if request.body else {})}
        try:
            answer, body = self._send(
                f"{self._base}/{request.path}{query}", method=request.method, body=request.body, headers=headers
            )
        except GoogleAuthError as error:
            return no_token(error)
        except (OSError, httplib2.HttpLib2Error) as error:
            return NoResponse(f"{type(error).__name__}: {error}")
        received = Response(int(answer.status), body, {str(name).lower(): str(answer[name]) for name in answer})
        self.last = received
        return received


class InterceptingTransport:
    """The client's transport: httplib2's interface, sent with requests and time limits.

    Each thread and each process has its own session.

    :param client: Carries out requests that start operations.
    """

    def __init__(self, client: EeSession) -> None:
        self._client = client
        self._sessions = threading.local()

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, *_args: Any, **_kwargs: Any
    ) -> tuple[Any, bytes]:
        """Send a request, as ``httplib2.Http.request`` does."""
        return self._client.request(self._send, uri, method, body, headers)

    def close(self) -> None:
        """End this thread's session."""
        if session := getattr(self._sessions, "session", None):
            session.close()

    def _send(self, uri: str, method: str, body: Any, headers: Any) -> tuple[Any, bytes]:
        import httplib2
        import requests

        if getattr(self._sessions, "process", None) != os.getpid():  # A forked child must not share a connection.
            self._sessions.session, self._sessions.process = requests_session(), os.getpid()
        limits = (CONNECT_TIMEOUT, REQUEST_TIMEOUT)
        try:
            answer = self._sessions.session.request(method, uri, data=body, headers=headers, timeout=limits)
        except requests.Timeout as error:
            raise TimeoutError(error) from error
        except requests.RequestException as error:
            raise ConnectionError(error) from error
        return httplib2.Response({**answer.headers, "status": answer.status_code}), answer.content


class InterceptingWrapper:
    """Wraps a transport that the function has passed to the client."""

    def __init__(self, http: Any, client: EeSession) -> None:
        self.http, self._client = http, client

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, *_args: Any, **_kwargs: Any
    ) -> tuple[Any, bytes]:
        """Send a request, as ``httplib2.Http.request`` does."""
        return self._client.request(self.http.request, uri, method, body, headers)
