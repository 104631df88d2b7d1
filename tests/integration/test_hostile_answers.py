"""Hostile responses in Earth Engine's place: time and memory are bounded, and a bad response stops nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tracemalloc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from loopback import LoopbackServer

from airflow_ee_provider.earth_engine.model import errors, limits
from airflow_ee_provider.earth_engine.transport import drivers
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook
from airflow_ee_provider.tracking.overview import read_overview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler

NAME = "projects/earth-demo/operations/A"


class Hostile(LoopbackServer):
    """Answers each request with `send`."""

    def __init__(self) -> None:
        super().__init__()
        self.send: Callable[[BaseHTTPRequestHandler], None] = lambda request: request.send_error(500)
        self.asked = 0
        self.is_over = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        try:
            self.send(request)
        except OSError:  # The client has hung up.
            request.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    with Hostile() as hostile:
        extra = {"project": "earth-demo", "is_anonymous": True}
        connection = {"conn_type": "earth_engine", "host": hostile.url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
        yield hostile
        hostile.is_over.set()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(EarthEngineHook(), method)(*args, **kwargs)
        return asyncio.run(getattr(EarthEngineAsyncHook(), method)(*args, **kwargs))

    return call


def headers(request: BaseHTTPRequestHandler, **more: str) -> None:
    request.send_response(200)
    for name, value in more.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()


def compressed(body: bytes, encoding: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        headers(request, Content_Encoding=encoding, Content_Length=str(len(body)))
        request.wfile.write(body)

    return send


def endless(request: BaseHTTPRequestHandler) -> None:
    headers(request)
    while True:
        request.wfile.write(b" " * 65536)


def dripping(server: Hostile) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        headers(request, Content_Length="100000")
        while not server.is_over.wait(0.1):
            request.wfile.write(b" ")
            request.wfile.flush()

    return send


BOMB = gzip.compress(b" " * (256 * 2**20))


@pytest.mark.parametrize(
    ("send", "says"),
    [
        (compressed(BOMB, "gzip"), "is longer than 33,554,432 bytes"),
        (compressed(gzip.compress(BOMB), "gzip, gzip"), "is compressed as 'gzip, gzip', which was not asked for"),
        (endless, "is longer than 33,554,432 bytes"),
    ],
    ids=["a bomb", "a bomb in a bomb", "an endless one"],
)
def test_a_response_that_is_too_large_is_not_read_and_its_request_not_repeated(
    server: Hostile, call: Callable[..., Any], send: Callable[[BaseHTTPRequestHandler], None], says: str
) -> None:
    server.send = send
    tracemalloc.start()
    try:
        with pytest.raises(errors.EarthEngineError, match=says) as caught:
            call("get_operation", NAME)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert caught.value.permanent
    assert server.asked == 1
    assert most < 4 * limits.LARGEST_ANSWER


def test_a_compressed_response_is_read(server: Hostile, call: Callable[..., Any]) -> None:
    answer = {"name": NAME, "done": False, "metadata": {"state": "RUNNING"}}
    server.send = compressed(gzip.compress(json.dumps(answer).encode()), "gzip")

    assert call("get_operation", NAME).state.value == "RUNNING"


def dripping_headers(server: Hostile) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not server.is_over.wait(0.1):
            request.wfile.write(b"x")
            request.wfile.flush()

    return send


def continuing(server: Hostile) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        while not server.is_over.wait(0.02):
            request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.wfile.flush()

    return send


def test_a_slow_response_has_a_total_time_limit(
    server: Hostile, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT", 1.0)
    server.send = dripping(server)
    started = time.monotonic()

    [result] = call("cancel_operations", NAME, timeout=4.0)

    assert result.outcome.value in ("ERROR", "STILL_CANCELLING")
    assert time.monotonic() - started < 60  # With a limit for each byte only, it would take hours.


@pytest.mark.parametrize("slow", [dripping_headers, continuing])
def test_slow_headers_count_towards_the_total_time_limit(
    server: Hostile,
    call: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    slow: Callable[[Hostile], Callable[[BaseHTTPRequestHandler], None]],
) -> None:
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT", 1.0)
    server.send = slow(server)
    started = time.monotonic()

    [result] = call("cancel_operations", NAME, timeout=4.0)

    assert result.outcome.value in ("ERROR", "STILL_CANCELLING")
    assert time.monotonic() - started < 60


def test_reading_an_endless_list_ends_in_an_error(server: Hostile, call: Callable[..., Any]) -> None:
    def send(request: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"operations": [], "nextPageToken": str(server.asked)}).encode()
        headers(request, Content_Length=str(len(body)))
        request.wfile.write(body)

    server.send = send

    with pytest.raises(errors.TransientError, match="list of operations has no end: 400 pages were read"):
        call("list_operations")


def test_a_page_token_of_a_megabyte_is_not_sent_back(server: Hostile, call: Callable[..., Any]) -> None:
    def send(request: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"operations": [], "nextPageToken": "x" * 2**20}).encode()
        headers(request, Content_Length=str(len(body)))
        request.wfile.write(body)

    server.send = send

    with pytest.raises(errors.TransientError, match="has no end") as caught:
        call("list_operations")
    assert len(str(caught.value)) < 1000
    assert server.asked == 1


def test_a_servers_message_becomes_one_short_printable_line(server: Hostile, call: Callable[..., Any]) -> None:
    def send(request: BaseHTTPRequestHandler) -> None:
        message = "no\n::endgroup::\n\x1b[31mERROR everything is fine " + "x" * 100_000
        body = json.dumps({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message}}).encode()
        request.send_response(403)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    server.send = send

    with pytest.raises(errors.PermissionDeniedError) as caught:
        call("get_operation", NAME)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


#: Responses of a local service that is not the Earth Engine emulator.
FOREIGN = {
    "a text": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nS3CR3T",
    "an error": b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nS3CR3T",
    "JSON": b'HTTP/1.1 403 No\r\nContent-Length: 33\r\n\r\n{"error": {"message": "S3CR3T-"}}',
    "names": b'HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{"operations": [{"name": "S3CR3T "}]}',
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://S3CR3T/\r\nContent-Length: 0\r\n\r\n",
    "a greeting": b"S3CR3T-2.0 a greeting\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: S3CR3T\r\n\r\n",
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_the_test_button_and_the_page_do_not_show_responses_to_an_anonymous_connection(
    server: Hostile, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    at_once = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(drivers, "time", at_once)

    def send(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.write(answer)

    server.send = send

    worked, said = EarthEngineHook().test_connection()
    listed = read_overview(["earth_engine_default"])

    assert not worked
    assert not listed.operations
    assert "The server that this anonymous connection names" in said
    assert "S3CR3T" not in said + json.dumps(listed.errors)


@pytest.mark.parametrize("send", [compressed(BOMB, "gzip"), endless, compressed(b" " * 2**21, "identity")])
def test_a_large_response_of_a_token_server_is_not_read(
    server: Hostile, send: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    from requests.exceptions import ContentDecodingError

    from airflow_ee_provider.earth_engine.auth.sessions import token_session

    server.send = send
    tracemalloc.start()
    try:
        with token_session() as session, pytest.raises(ContentDecodingError, match="is longer than 1,048,576 bytes"):
            session.post(server.url, timeout=10)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 32 * limits.LARGEST_TOKEN_ANSWER


def test_a_slow_response_of_a_token_server_has_a_time_limit(server: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from requests.exceptions import ReadTimeout

    from airflow_ee_provider.earth_engine.auth.sessions import token_session

    monkeypatch.setattr(limits, "ANSWER_TIMEOUT", 1.0)
    server.send = dripping(server)
    with token_session() as session, pytest.raises(ReadTimeout, match="has not ended in 1 s"):
        session.post(server.url, timeout=10)


def test_a_large_response_is_parsed_outside_the_event_loop(server: Hostile) -> None:
    """Ten megabytes of JSON take a quarter of a second; nothing else in the triggerer waits for that."""
    operations = [{"name": f"projects/earth-demo/operations/A{n}", "metadata": {"x": "y" * 900}} for n in range(10_000)]
    body = json.dumps({"operations": operations}).encode()

    def send(request: BaseHTTPRequestHandler) -> None:
        headers(request, Content_Length=str(len(body)))
        request.wfile.write(body)

    server.send = send
    threads: set[int] = set()
    loads = json.loads

    def noting(text: Any, **kwargs: Any) -> Any:
        if len(text) > limits.LARGE_ANSWER:
            threads.add(threading.get_ident())
        return loads(text, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json, "loads", noting)
        found = asyncio.run(EarthEngineAsyncHook().list_operations())

    assert len(found) == 10_000
    assert threads
    assert threading.get_ident() not in threads
