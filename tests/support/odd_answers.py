"""Generates arbitrary responses to the requests about one of several operations, or to the requests that list them."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import requests
from clocks import QuickTime
from hypothesis import strategies as st
from loopback import LoopbackServer, send
from yarl import URL
from yarl._quoting import _Quoter

from airflow_ee_provider.earth_engine.protocol import reading
from airflow_ee_provider.emulator.faults import ApiError
from airflow_ee_provider.emulator.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    import pytest

#: The requests that get an odd response: those that read the operation, cancel it, read or cancel it, or list all.
PLACES = ("read", "cancel", "read and cancel", "list")

#: Seconds for which an actor may sleep, on a clock on which only sleeps take time: the page has two minutes.
LONGEST = 150.0

#: The placeholder, in a response, for the name of the odd operation.
ITS_NAME = "projects/earth-demo/operations/ODD"


def _value_error() -> None:
    urllib.parse.urlsplit("http://[")


def _compiled_error() -> None:
    _Quoter()(5)  # type: ignore[arg-type]


def _unicode_error() -> None:
    json.loads(b"\xff")


def _type_error() -> None:
    URL(5)  # type: ignore[arg-type]


def _http_error() -> None:
    raise requests.exceptions.ChunkedEncodingError("cut")


def _status_line_error() -> None:
    http.client.HTTPResponse(None)  # type: ignore[arg-type]


#: Functions that each raise an exception from a library's own code.
RAISING: tuple[Callable[[], None], ...] = (
    _value_error,
    _compiled_error,
    _unicode_error,
    _type_error,
    _http_error,
    _status_line_error,
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(ITS_NAME),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_STATES = st.sampled_from(["PENDING", "RUNNING", "CANCELLING", "CANCELLED", "SUCCEEDED", "FAILED", "OF_A_LATER_API"])
_OPERATION = st.fixed_dictionaries(
    {"name": st.just(ITS_NAME) | _JSON},
    optional={
        "done": st.booleans() | _JSON,
        "error": st.fixed_dictionaries({"code": st.sampled_from([1, 3, 99]), "message": _JSON}) | _JSON,
        "metadata": st.fixed_dictionaries({}, optional={"state": _STATES | _JSON, "createTime": _JSON}) | _JSON,
    },
)
_ERROR = st.fixed_dictionaries({"error": st.fixed_dictionaries({}, optional={"status": _JSON, "message": _JSON})})
_LIST = st.fixed_dictionaries({"operations": st.lists(_OPERATION, max_size=2)}, optional={"nextPageToken": _JSON})
BODIES = st.binary(max_size=40) | (_OPERATION | _ERROR | _LIST | _JSON).map(lambda value: json.dumps(value).encode())

#: Header lines of a response, valid and invalid ones.
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Location: http://[",
            b"Location: //\xff\x00",
            b"Location: https://[::1]:99999/\r\n b",
            b"Content-Encoding: gzip",
            b"Content-Encoding: gzip, gzip",
            b"Content-Encoding: deflate",
            b"Content-Encoding: br",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Length: -1",
            b"Content-Length: 7",
            b"Content-Length: 99999",
            b"Content-Length: \xb2",
            b"Content-Type: text/html; charset=\xff",
            b"Content-Type: application/json; charset=no-such",
            b"Retry-After: 3",
            b"Retry-After: 100",
            b"Retry-After: 300",
            b"Retry-After: 3600",
            b"Retry-After: \xb2",
            b"Retry-After: Fri, 31 Dec 9999 23:59:59 -2359",
            b"Date: Thu, 01 Jan 0001 00:00:00 +2359",
            b"Set-Cookie: \xff=\x01; Domain=[; Max-Age=nan",
            b"WWW-Authenticate: \xff",
            b"Connection: upgrade\r\nUpgrade: h2c",
            b"X: " + b"x" * 70_000,
            b"X: x\r\n" * 120 + b"X: x",
            b"nonsense",
            b": nothing",
            b" folded",
        ]
    )
    | st.binary(max_size=20),
    max_size=3,
)


def _answer(status: int, headers: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d Odd" % status, *headers, b"", body])


ANSWERS = st.builds(_answer, st.integers(200, 599), HEADERS, BODIES) | st.binary(max_size=40)


@dataclass(frozen=True)
class Odd:
    """The requests that get an odd response, and the response.

    :param answer: all bytes that the server sends before it closes the connection; or a function that raises instead.
    """

    place: str
    answer: bytes | Callable[[], None]


ODD = st.builds(Odd, st.sampled_from(PLACES), ANSWERS | st.sampled_from(RAISING))


class OddEarthEngine(LoopbackServer):
    """Earth Engine, with four operations that run until they are cancelled; responses about the first may be odd."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._monkeypatch = monkeypatch
        self._raise_where_sent()
        self.service = Service()
        self.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
        self.names = [self.service.add(f"x{number}") for number in range(4)]
        self.odd: Odd | None = None
        self._clock, self._began = QuickTime(), 0.0

    @property
    def connection(self) -> str:
        """An Airflow connection to this server."""
        extra = {"project": "earth-demo", "is_anonymous": True}
        return json.dumps({"conn_type": "earth_engine", "host": self.url, "extra": extra})

    def begin(self, odd: Odd, clock: QuickTime) -> None:
        """Make all operations run again, and respond oddly from now on."""
        self.odd, self._clock, self._began = odd, clock, clock.slept
        for operation in self.service.operations.values():
            operation.cancel_requested = None
        # Four operations are read with a list request only if that is the odd request.
        self._monkeypatch.setattr(reading, "GETS_PER_LIST_PAGE", 2 if odd.place == "list" else 20)

    def check(self, said: str, longest: float = LONGEST) -> None:
        """Assert that all other operations are cancelled, in a bounded time, and that the odd operation is named.

        :param said: the actor's log or response.
        :param longest: seconds that it may have slept.
        """
        assert [self.service.state(name) for name in self.names[1:]] == ["CANCELLED"] * 3, said
        assert self.names[0] in said
        assert self._clock.slept - self._began <= longest

    def _oddly(self, method: str, path: str) -> Odd | None:
        """Return the odd response to a request, or None."""
        place = "cancel" if path.endswith(":cancel") else "list" if path.endswith("/operations") else "read"
        is_about_it = place == "list" or path.removesuffix(":cancel") == self.names[0]
        is_odd = self.odd is not None and is_about_it and place in self.odd.place
        return self.odd if is_odd else None

    def _raise_where_sent(self) -> None:
        """Make requests and aiohttp raise an exception when an odd request is sent."""
        sending, asking = requests.Session.send, aiohttp.ClientSession._request

        def meet(method: str, url: Any) -> None:
            path = str(url).partition("/v1/")[2].partition("?")[0]
            if self.odd and callable(self.odd.answer) and self._oddly(method, path):
                self.odd.answer()

        def send_it(session: Any, request: Any, **how: Any) -> Any:
            meet(request.method, request.url)
            return sending(session, request, **how)

        async def ask(session: Any, method: str, url: Any, **how: Any) -> Any:
            meet(method, url)
            return await asking(session, method, url, **how)

        self._monkeypatch.setattr(requests.Session, "send", send_it)
        self._monkeypatch.setattr(aiohttp.ClientSession, "_request", ask)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        path = request.path.removeprefix("/v1/").partition("?")[0]
        odd = self._oddly(request.command, path)
        if odd is not None and isinstance(odd.answer, bytes):
            request.wfile.write(odd.answer.replace(ITS_NAME.encode(), self.names[0].encode()))
            return
        try:
            found = self._understood(request.command, path)
        except ApiError as error:
            send(request, json.dumps(error.as_json()).encode(), error.http_status)
        else:
            send(request, json.dumps(found).encode())

    def _understood(self, method: str, path: str) -> dict[str, Any]:
        if method == "POST":
            return self.service.cancel(path.removesuffix(":cancel"))
        if path.endswith("/operations"):
            return self.service.list("earth-demo", 500, "")
        return self.service.get(path)
