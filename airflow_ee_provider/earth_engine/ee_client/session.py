"""Run a function with the official client, ``earthengine-api``, initialized for the task's account.

Each request of the client passes through `InterceptingTransport`. If the function initializes the client again,
`_execute_cloud_call` restores that transport. This package carries out the requests that start operations: each exactly
once, with a ``requestId`` of its own, and recorded before the client gets the response.

Follows https://developers.google.com/earth-engine/apidocs/ee-initialize
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow_ee_provider.earth_engine.ee_client.intercepted import InterceptingTransport, PassthroughSender
from airflow_ee_provider.earth_engine.ee_client.pace import Pace
from airflow_ee_provider.earth_engine.ee_client.patches import limited_deprecations, patched
from airflow_ee_provider.earth_engine.ee_client.registering import Registering, Registry
from airflow_ee_provider.earth_engine.model.destinations import destination_of
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, InvalidRequestError
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log
from airflow_ee_provider.earth_engine.protocol.api_methods import encode
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request, Response
from airflow_ee_provider.earth_engine.protocol.error_rules import parse_response
from airflow_ee_provider.earth_engine.transport.transports import no_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.ee_client.side_effects import Deeds
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import Log
    from airflow_ee_provider.earth_engine.transport.transports import SyncTransport

#: How long to wait for the responses to starts after the function has returned, in seconds.
ANSWERS_TIMEOUT = 60.0

#: The client's error in a process in which it was not initialized.
_NOT_INITIALIZED = "client library not initialized"

_START = re.compile(r"(?P<base>.*)/projects/(?P<project>[^/?]+)/(?P<method>[A-Za-z]+:(?:export|import))(?:\?.*)?")


class OperationStarter(Registry, Protocol):
    """Starts operations for the function."""

    @property
    def awaited(self) -> Sequence[Start]:
        """The starts that Earth Engine has not answered yet, and whose thread waits for the answer."""

    def prepare(self, method: str, body: Mapping[str, Any], project: str) -> Start:
        """Return the start for a request."""

    def start(self, start: Start, transport: SyncTransport) -> Operation:
        """Start the operation, or find it if it is started already, and record it."""

    @property
    def deeds(self) -> Deeds:
        """The changes that the function's own requests have made."""


class EeSession:
    """The client while a function runs.

    :param account: The credentials, project and endpoint that the client uses.
    :param starter: Starts operations in place of the client.
    :param registering: Collects starts until the function returns; None to start each operation at once.
    """

    def __init__(
        self, account: Account, starter: OperationStarter, log: Log, registering: Registering | None = None
    ) -> None:
        self._account, self._starter, self._log, self.registering = account, starter, log, registering
        self._pace = Pace()
        self._starts: dict[tuple[str, str, str], Start] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._logged: set[str] = set()
        #: Whether the function has returned. After that, the client cannot start operations.
        self.closed = False

    @property
    def project(self) -> str:
        """The Cloud project in which the client starts operations now. The function may have changed it."""
        import ee

        return str(ee.data._get_projects_path()).removeprefix("projects/")  # noqa: SLF001 (it has no public name)

    def request(
        self, send: Callable[..., tuple[Any, bytes]], uri: str, method: str, body: Any, headers: Any
    ) -> tuple[Any, bytes]:
        """Carry out a request of the client.

        :param send: Sends a request unchanged.
        """
        match = _START.fullmatch(uri) if method == "POST" else None
        if match is None:
            self._pace.request(uri)
            if self.registering:
                self.registering.before_request(uri)
            answer, content = send(uri, method=method, body=body, headers=headers)
            self._starter.deeds.observe(method, uri, body, answer)
            return answer, content
        import ee

        if os.getpid() != self._process:
            raise ee.EEException(
                "A child process cannot start operations for its Airflow task, since the task would not own them. "
                "Return the ee.batch.Task objects from the child process without starting them, and then from the "
                "task's function."
            )
        if self.closed:
            self._log.error(
                "Not started: %s. A thread requested it after the task's function had returned. Let the function wait "
                "for its threads.",
                match["method"],
            )
            raise ee.EEException(
                "The Airflow task's function has returned, so this thread can start no more operations. Let the "
                "function wait for its threads."
            )
        return self._start(match, PassthroughSender(send, match["base"], headers or {}), json.loads(body))

    def _start(self, match: re.Match[str], through: PassthroughSender, asked: dict[str, Any]) -> tuple[Any, bytes]:
        import ee
        import httplib2

        project, method = match["project"], match["method"]
        key = (project, method, str(asked.get("requestId") or ""))
        is_registering = self.registering is not None and self.registering.is_registering
        if self._starter.is_retry and key not in self._starts and not is_registering:
            self._look_at_asset(through, asked)
        with self._lock:  # The client repeats a request, and the function a start(), with the same requestId.
            start = self._starts.get(key) if key[2] else None
            if start is None:
                start = self._starts[key] = self._starter.prepare(method, asked, project)
        try:
            if self.registering and is_registering:
                raise self.registering.register(start)
            with self._pace.start():
                operation = self._starter.start(start, through)
        except EarthEngineError as error:
            if through.last and through.last.status == 401:  # google-auth refreshes the token and repeats the request.
                return httplib2.Response({"status": 401}), through.last.body
            raise ee.EEException(str(error)) from error
        last = through.last.body if through.last else b"{}"
        shown = last if json.loads(last).get("name") == str(operation.name) else encode({"name": str(operation.name)})
        return httplib2.Response({"status": 200, "content-type": "application/json"}), shown

    def _look_at_asset(self, through: PassthroughSender, asked: dict[str, Any]) -> None:
        """Check whether an earlier try's output asset still exists. It may have been moved or deleted since."""
        asset = destination_of(asked)
        if not asset.startswith("projects/"):
            return
        answer = through.send(Request("GET", quote(asset), asset))
        if isinstance(answer, Response):
            self._starter.deeds.observe("GET", f"/{quote(asset)}", None, {**answer.headers, "status": answer.status})
        through.last = None  # This was not the response to the start.

    def registered_start_of(self, thing: object) -> Start | None:
        """Return the start that is registered for an object of the function; None for any other object."""
        return self.registering.start_of(thing) if self.registering else None

    def function_returned(self) -> None:
        """Log how the function could start its operations faster, if it could."""
        if hint := self.registering.hint() if self.registering else self._pace.hint():
            self._log.info("%s", hint)

    def uses(self, url: str) -> bool:
        """Whether to use the endpoint that the function names: it is not the account's, and may receive a token."""
        if not url or url.rstrip("/") == self._account.endpoint:
            return False
        may = self._account.trusts(url)
        if not may:
            self.tell_once(
                "Ignoring the endpoint %s of the function's ee.Initialize(): it is not Google's. To allow it, add its "
                "host to [earth_engine] allowed_hosts in Airflow's configuration.",
                escaped_for_log(url),
            )
        return may

    def tell_once(self, message: str, *args: Any) -> None:
        """Log a message, once."""
        if message not in self._logged:
            self._logged.add(message)
            self._log.info(message, *args)


@contextmanager
def ee_session(
    account: Account, starter: OperationStarter, log: Log, start_registered: Callable[[], None] | None = None
) -> Iterator[EeSession]:
    """Initialize ``ee`` with the account, for the duration of the block.

    :param start_registered: Starts the registered operations in parallel; None to register none.
    :raises InvalidRequestError: If ``earthengine-api`` is not installed.
    :raises EarthEngineError: If Earth Engine responds with an error while the client is initialized.
    """
    try:
        import ee
    except ImportError:
        raise InvalidRequestError(
            "The package earthengine-api is not installed.",
            remedy="Install it where the task runs: pip install earthengine-api.",
        ) from None
    registering = Registering(starter, start_registered) if start_registered else None
    client = EeSession(account, starter, log, registering)
    threads = set(threading.enumerate())
    interrupted = False
    with patched(ee, client, account) as initialize:
        try:
            with _errors(f"projects/{account.project}"), limited_deprecations():
                how = {
                    "url": account.endpoint,
                    "project": account.project,
                    "http_transport": InterceptingTransport(client),
                }
                initialize(account.credentials, **how)
            yield client
        except Exception as error:
            if _NOT_INITIALIZED in str(error):  # It is initialized here, so the error comes from a child process.
                log.error(  # noqa: TRY400 (the traceback is the function's)
                    "A child process of the function called ee, but ee is initialized only in the task's own process "
                    "and in its forks. A child process also cannot start operations: let it return ee.batch.Task "
                    "objects, and return them from the task's function. See “Child processes” in docs/libraries.md."
                )
            raise
        except BaseException:
            interrupted = True
            raise
        finally:
            client.closed = True
            if not interrupted:  # After a timeout, no thread receives the responses; the cancel repeats the requests.
                _wait_for_answers(starter)
            # A daemon thread is not the function's work: it belongs to a progress bar or an event loop.
            new = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
            if running := [thread.name for thread in new if not _is_idle(thread)]:
                log.warning(
                    "The function returned while its threads %s were running. They can start no more operations. Let "
                    "the function wait for its threads.",
                    running,
                )
            ee.Reset()


def _is_idle(thread: threading.Thread) -> bool:
    """Whether a thread belongs to a pool and waits for work."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 (there is no public way)
    return frame is not None and frame.f_globals.get("__name__") == "concurrent.futures.thread"


def _wait_for_answers(starter: OperationStarter) -> None:
    deadline = time.monotonic() + ANSWERS_TIMEOUT
    while starter.awaited and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _errors(subject: str) -> Iterator[None]:
    """Replace the client's errors by this package's, which have a status and a remedy. Other errors stay unchanged."""
    import ee
    from google.auth.exceptions import GoogleAuthError

    request = Request("POST", subject, subject)
    try:
        yield
    except GoogleAuthError as error:
        raise _decoded(request, no_token(error), error) from None
    except ee.EEException as error:
        http_error: Any = error.__context__  # googleapiclient's
        if not hasattr(http_error, "resp"):
            raise
        answer = Response(int(http_error.resp.status), http_error.content)
        raise _decoded(request, answer, error) from None


def _decoded(request: Request, answer: Response | NoResponse, error: Exception) -> Exception:
    decoded = parse_response(request, answer)
    return decoded if isinstance(decoded, EarthEngineError) else error
