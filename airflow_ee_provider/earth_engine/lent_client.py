"""The official client, ``earthengine-api``, lent to a function: it calls as the account does, and its starts are seen.

Every request of the client's goes through `WatchedTransport`; where a function initialises the client again,
`_execute_cloud_call` puts it back. A request that starts an operation is carried out by our own rules:
once, under a ``requestId`` of ours, recorded before the function hears of it.

Follows https://developers.google.com/earth-engine/apidocs/ee-initialize
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ee_provider.earth_engine.client.transports import no_token
from airflow_ee_provider.earth_engine.errors import EarthEngineError, InvalidRequestError
from airflow_ee_provider.earth_engine.flows.calls import encode
from airflow_ee_provider.earth_engine.flows.effects import NoResponse, Request, Response
from airflow_ee_provider.earth_engine.flows.error_rules import parse_response
from airflow_ee_provider.earth_engine.lent_transport import Through, WatchedOther, WatchedTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_ee_provider.earth_engine.client.drivers import Log
    from airflow_ee_provider.earth_engine.client.transports import SyncTransport
    from airflow_ee_provider.earth_engine.credentials import Account
    from airflow_ee_provider.earth_engine.flows.starting import Start
    from airflow_ee_provider.earth_engine.operations import Operation

#: Seconds for the list of deprecations that the client fetches from another host, without a limit of its own.
DEPRECATIONS_TIMEOUT = 10.0

#: Seconds that the answers to starts are waited for, once the function has returned.
ANSWERS_TIMEOUT = 60.0

#: What the client says in a process in which it was not initialised.
_NOT_INITIALIZED = "client library not initialized"

_START = re.compile(r"(?P<base>.*)/projects/(?P<project>[^/?]+)/(?P<method>[A-Za-z]+:(?:export|import))(?:\?.*)?")


class OperationStarter(Protocol):
    """Who starts what the function starts."""

    @property
    def is_busy(self) -> bool:
        """Whether an answer to a start is still awaited."""

    def plan(self, method: str, body: Mapping[str, Any], project: str) -> Start:
        """Return the start of what is asked for."""

    def start(self, start: Start, transport: SyncTransport) -> Operation:
        """Start it, or find it started, and record it."""


class LentClient:
    """The client for a function's time.

    :param account: whose credentials, project and endpoint it uses.
    :param starter: starts operations in its place.
    """

    def __init__(self, account: Account, starter: OperationStarter, log: Log) -> None:
        self._account, self._starter, self._log = account, starter, log
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
            return send(uri, method=method, body=body, headers=headers)
        import ee

        if os.getpid() != self._process:
            raise ee.EEException(
                "A child process cannot start operations for its Airflow task, which would not own them: let it return "
                "the ee.batch.Task objects, not started, and return them from the task's function."
            )
        if self.closed:
            self._log.error("A thread that has outlived the task's function wanted to start %s.", match["method"])
            raise ee.EEException("The Airflow task's function has returned: nothing more is started. Wait for threads.")
        return self._start(match, Through(send, match["base"], headers or {}), json.loads(body))

    def _start(self, match: re.Match[str], through: Through, asked: dict[str, Any]) -> tuple[Any, bytes]:
        import ee
        import httplib2

        project, method = match["project"], match["method"]
        key = (project, method, str(asked.get("requestId") or ""))
        with self._lock:  # The client repeats a request, and a function a start(), under the requestId it had.
            start = self._starts.get(key) if key[2] else None
            if start is None:
                start = self._starts[key] = self._starter.plan(method, asked, project)
        try:
            operation = self._starter.start(start, through)
        except EarthEngineError as error:
            if through.last and through.last.status == 401:  # google-auth refreshes the token, and comes again.
                return httplib2.Response({"status": 401}), through.last.body
            raise ee.EEException(str(error)) from error
        last = through.last.body if through.last else b"{}"
        shown = last if json.loads(last).get("name") == str(operation.name) else encode({"name": str(operation.name)})
        return httplib2.Response({"status": 200, "content-type": "application/json"}), shown

    def tell_once(self, message: str, *args: Any) -> None:
        """Say something in the log, the first time."""
        if message not in self._told:
            self._told.add(message)
            self._log.info(message, *args)


@contextmanager
def lent_client(account: Account, starter: OperationStarter, log: Log) -> Iterator[LentClient]:
    """Let ``ee`` call Earth Engine as the account does, for the block's time.

    :raises InvalidRequestError: if it is not installed.
    :raises EarthEngineError: for what Earth Engine answers while the client is initialised.
    """
    try:
        import ee
    except ImportError:
        raise InvalidRequestError(
            "The package earthengine-api is not installed.", remedy="pip install 'airflow-ee-provider[earthengine]'."
        ) from None
    client = LentClient(account, starter, log)
    threads = set(threading.enumerate())
    interrupted = False
    with _patched(ee, client, account) as initialize:
        try:
            with _errors(f"projects/{account.project}"), _limited_deprecations():
                how = {"url": account.endpoint, "project": account.project, "http_transport": WatchedTransport(client)}
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
            if left := [thread.name for thread in threading.enumerate() if thread not in threads]:
                log.warning("The function has returned while its threads %s go on: they can start nothing.", left)
            ee.Reset()


def _wait_for_answers(starter: OperationStarter) -> None:
    deadline = time.monotonic() + ANSWERS_TIMEOUT
    while starter.is_busy and time.monotonic() < deadline:
        time.sleep(0.05)


@contextmanager
def _limited_deprecations() -> Iterator[None]:
    """Bound the list of deprecations: the client's own request for it has no limit. Nothing of the function's runs."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DEPRECATIONS_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _patched(ee: Any, client: LentClient, account: Account) -> Iterator[Callable[..., None]]:
    """Replace what would take the account or the watching transport away from the function, and put it back.

    :return: the client's own ``Initialize``.
    """
    execute, initialize = ee.data._execute_cloud_call, ee.Initialize  # noqa: SLF001 (it has no public name)

    @wraps(execute)
    def watched_call(call: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(getattr(call.http, "http", call.http), (WatchedTransport, WatchedOther)):
            call.http = WatchedOther(call.http, client)
        return execute(call, *args, **kwargs)

    @wraps(initialize)
    def initialize_again(credentials: Any = "persistent", *args: Any, **kwargs: Any) -> None:
        if credentials not in ("persistent", None):
            client.tell_once("The function initialises ee with credentials of its own; this task cancels with its own.")
            kwargs.setdefault("http_transport", WatchedTransport(client))
            initialize(credentials, *args, **kwargs)
            return
        client.tell_once(
            "ee is initialised from the Airflow connection already; the function's ee.Initialize() keeps it."
        )
        if project := kwargs.get("project"):
            ee.data.setCloudApiUserProject(str(project))

    def authenticate(*_args: Any, **_kwargs: Any) -> None:
        raise InvalidRequestError(
            "ee.Authenticate() waits for a person with a browser, and a task has none.",
            remedy="Remove the call: ee is initialised from the Airflow connection already.",
        )

    changes = [
        (ee.data, "_execute_cloud_call", watched_call),
        (ee.data, "get_persistent_credentials", lambda: account.credentials),
        (ee, "Initialize", initialize_again),
        (ee, "Authenticate", authenticate),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, replacement in changes:
        setattr(module, name, replacement)
    try:
        yield initialize
    finally:
        for module, name, replaced in before:
            setattr(module, name, replaced)


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
