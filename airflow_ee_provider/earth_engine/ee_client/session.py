"""The official client, ``earthengine-api``, lent to a function: it calls as the account does, and its starts are seen.

Every request of the client's goes through `InterceptingTransport`; where a function initialises the client again,
`_execute_cloud_call` puts it back. A request that starts an operation is carried out by our own rules:
once, under a ``requestId`` of ours, recorded before the function hears of it.

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

#: Seconds that the answers to starts are waited for, once the function has returned.
ANSWERS_TIMEOUT = 60.0

#: What the client says in a process in which it was not initialised.
_NOT_INITIALIZED = "client library not initialized"

_START = re.compile(r"(?P<base>.*)/projects/(?P<project>[^/?]+)/(?P<method>[A-Za-z]+:(?:export|import))(?:\?.*)?")


class OperationStarter(Registry, Protocol):
    """Who starts what the function starts."""

    @property
    def in_flight(self) -> Sequence[Start]:
        """The starts of which the answers are not here yet."""

    def prepare(self, method: str, body: Mapping[str, Any], project: str) -> Start:
        """Return the start of what is asked for."""

    def start(self, start: Start, transport: SyncTransport) -> Operation:
        """Start it, or find it started, and record it."""

    @property
    def deeds(self) -> Deeds:
        """What the function has done by itself."""


class EeSession:
    """The client for a function's time.

    :param account: whose credentials, project and endpoint it uses.
    :param starter: starts operations in its place.
    :param registering: what is registered until the function returns; None to start it as the function asks for it.
    """

    def __init__(
        self, account: Account, starter: OperationStarter, log: Log, registering: Registering | None = None
    ) -> None:
        self._account, self._starter, self._log, self.registering = account, starter, log, registering
        self._pace = Pace()
        self._starts: dict[tuple[str, str, str], Start] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._told: set[str] = set()
        #: Whether the function has returned: nothing more is started.
        self.closed = False

    @property
    def project(self) -> str:
        """The Cloud project in which the client starts operations now: the function may have set another one."""
        import ee

        return str(ee.data._get_projects_path()).removeprefix("projects/")  # noqa: SLF001 (it has no public name)

    def request(
        self, send: Callable[..., tuple[Any, bytes]], uri: str, method: str, body: Any, headers: Any
    ) -> tuple[Any, bytes]:
        """Carry out a request of the client's, which ``send`` would send as it is."""
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
                "A child process cannot start operations for its Airflow task, which would not own them: let it return "
                "the ee.batch.Task objects, not started, and return them from the task's function."
            )
        if self.closed:
            self._log.error("A thread that has outlived the task's function wanted to start %s.", match["method"])
            raise ee.EEException("The Airflow task's function has returned: nothing more is started. Wait for threads.")
        return self._start(match, PassthroughSender(send, match["base"], headers or {}), json.loads(body))

    def _start(self, match: re.Match[str], through: PassthroughSender, asked: dict[str, Any]) -> tuple[Any, bytes]:
        import ee
        import httplib2

        project, method = match["project"], match["method"]
        key = (project, method, str(asked.get("requestId") or ""))
        is_registering = self.registering is not None and self.registering.is_registering
        if self._starter.is_retry and key not in self._starts and not is_registering:
            self._look_at_asset(through, asked)
        with self._lock:  # The client repeats a request, and a function a start(), under the requestId it had.
            start = self._starts.get(key) if key[2] else None
            if start is None:
                start = self._starts[key] = self._starter.prepare(method, asked, project)
        try:
            if self.registering and is_registering:
                raise self.registering.register(start)
            with self._pace.start():
                operation = self._starter.start(start, through)
        except EarthEngineError as error:
            if through.last and through.last.status == 401:  # google-auth refreshes the token, and comes again.
                return httplib2.Response({"status": 401}), through.last.body
            raise ee.EEException(str(error)) from error
        last = through.last.body if through.last else b"{}"
        shown = last if json.loads(last).get("name") == str(operation.name) else encode({"name": str(operation.name)})
        return httplib2.Response({"status": 200, "content-type": "application/json"}), shown

    def _look_at_asset(self, through: PassthroughSender, asked: dict[str, Any]) -> None:
        """See whether what an earlier try may have written is there: it can have been moved, or deleted, since."""
        asset = destination_of(asked)
        if not asset.startswith("projects/"):
            return
        answer = through.send(Request("GET", quote(asset), asset))
        if isinstance(answer, Response):
            self._starter.deeds.observe("GET", f"/{quote(asset)}", None, {**answer.headers, "status": answer.status})
        through.last = None  # It is no answer to the start.

    def registered_start_of(self, thing: object) -> Start | None:
        """Return the start that is registered for an object of the function's; None for any other object."""
        return self.registering.start_of(thing) if self.registering else None

    def function_returned(self) -> None:
        """Say how the function could have started more in less time."""
        if hint := self.registering.hint() if self.registering else self._pace.hint():
            self._log.info("%s", hint)

    def uses(self, url: str) -> bool:
        """Whether the client is to call another endpoint, which the function names."""
        if not url or url.rstrip("/") == self._account.endpoint:
            return False
        may = self._account.trusts(url)
        if not may:
            self.tell_once(
                "The function's ee.Initialize() names the endpoint %s, which is not Google's: it is not used. Whoever "
                "runs Airflow can add it to [earth_engine] allowed_hosts.",
                escaped_for_log(url),
            )
        return may

    def tell_once(self, message: str, *args: Any) -> None:
        """Say something in the log, the first time."""
        if message not in self._told:
            self._told.add(message)
            self._log.info(message, *args)


@contextmanager
def ee_session(
    account: Account, starter: OperationStarter, log: Log, start_registered: Callable[[], None] | None = None
) -> Iterator[EeSession]:
    """Let ``ee`` call Earth Engine as the account does, for the block's time.

    :param start_registered: starts what is registered, side by side; None to register nothing.
    :raises InvalidRequestError: if it is not installed.
    :raises EarthEngineError: for what Earth Engine answers while the client is initialised.
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
            if _NOT_INITIALIZED in str(error):  # Here it is: another process has said so.
                log.error(  # noqa: TRY400 (the traceback is the function's)
                    "ee is initialised in the task's own process. A child process has it only if it is forked, and can "
                    "start nothing: let it make ee.batch.Task objects, and return them from the task's function; see "
                    "“Child processes” in docs/libraries.md."
                )
            raise
        except BaseException:
            interrupted = True
            raise
        finally:
            client.closed = True
            if not interrupted:  # A timeout has ended the thread that would hear the answer; who cancels asks again.
                _wait_for_answers(starter)
            # A daemon is no work that anybody waits for: a progress bar's, an event loop's.
            new = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
            if left := [thread.name for thread in new if not _is_idle(thread)]:
                log.warning("The function has returned while its threads %s go on: they can start nothing.", left)
            ee.Reset()


def _is_idle(thread: threading.Thread) -> bool:
    """Whether it is a pool's, which waits for its next piece of work."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 (nothing else tells)
    return frame is not None and frame.f_globals.get("__name__") == "concurrent.futures.thread"


def _wait_for_answers(starter: OperationStarter) -> None:
    deadline = time.monotonic() + ANSWERS_TIMEOUT
    while starter.in_flight and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _errors(subject: str) -> Iterator[None]:
    """Give the client's errors, which know no status, the classes and remedies of ours; leave others as they are."""
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
