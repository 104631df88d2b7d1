"""A library's exception for one request is that request's error, wherever it is raised, and affects no other one."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_answers import RAISING
from playing import operation

from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.protocol.cancelling import CancelOutcome, cancel_and_confirm
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request
from airflow_ee_provider.earth_engine.transport import drivers
from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [OperationName("p", letter * 4) for letter in "ABCD"]
LOG = logging.getLogger(__name__)


PLACES = ("request", "headers", "body")


class Raw:
    def __init__(self, body: bytes, fault: Callable[[], None] | None) -> None:
        self.body, self.fault = body, fault

    def read1(self, _size: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        if self.fault:
            self.fault()
        body, self.body = self.body, b""
        return body


class Answer:
    """A response of `requests`; it raises the fault at the given place."""

    status_code = 200

    def __init__(self, body: bytes, place: str, fault: Callable[[], None] | None) -> None:
        self.place, self.fault = place, fault
        self.raw = Raw(body, fault if place == "body" else None)

    @property
    def headers(self) -> dict[str, str]:
        if self.place == "headers" and self.fault:
            self.fault()
        return {}

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None: ...

    def iter_content(self, _size: int) -> Any:
        while piece := self.raw.read1(_size, decode_content=False):
            yield piece


class Session:
    """An Earth Engine whose operations run until they are cancelled; requests about one of them raise an exception."""

    def __init__(self, place: str, fault: Callable[[], None]) -> None:
        self.place, self.fault, self.cancelled = place, fault, set[str]()

    def request(self, method: str, url: str, **_: Any) -> Answer:
        name = url.split("/v1/")[1].partition(":")[0]
        is_odd = name == str(NAMES[0])
        if is_odd and self.place == "request":
            self.fault()
        if method == "POST":
            self.cancelled.add(name)
            return Answer(b"{}", self.place, self.fault if is_odd else None)
        state = "CANCELLED" if name in self.cancelled else "RUNNING"
        return Answer(json.dumps(operation(state, name)).encode(), self.place, self.fault if is_odd else None)


@settings(max_examples=30)
@given(st.sampled_from(RAISING), st.sampled_from(PLACES))
def test_other_operations_are_cancelled(fault: Callable[[], None], place: str) -> None:
    transport = RequestsTransport(Session(place, fault), "https://earthengine.example/v1")  # type: ignore[arg-type]
    flow = cancel_and_confirm(NAMES, poll_interval=0.01, timeout=0.5)

    results = drivers.run(flow, transport, LOG)

    assert [result.outcome for result in results[1:]] == [CancelOutcome.CANCELLED] * 3
    assert results[0].outcome in (CancelOutcome.ERROR, CancelOutcome.STILL_CANCELLING)


def test_exception_of_a_signal_handler_of_the_tasks_function_is_raised() -> None:
    def interrupted() -> None:
        raise RuntimeError("the function's own time limit")

    transport = RequestsTransport(Session("request", interrupted), "https://earthengine.example/v1")  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="own time limit"):
        transport.send(Request("GET", str(NAMES[0]), str(NAMES[0])))


def test_error_of_one_flow_ends_no_other_on_an_event_loop() -> None:
    from airflow_ee_provider.earth_engine.protocol.effects import SideBySide, Sleep

    ended = []

    def flow(number: int) -> Any:
        yield Sleep(0.01 * number)
        ended.append(number)
        return 1 // number

    def together() -> Any:
        return (yield SideBySide([flow(number) for number in range(5)]))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(drivers.run_async(together(), None, LOG))  # type: ignore[arg-type]

    assert ended == [0, 1, 2, 3, 4]


def test_fault_of_a_request_gives_no_response() -> None:
    transport = RequestsTransport(Session("request", RAISING[0]), "https://earthengine.example/v1")  # type: ignore[arg-type]

    answer = transport.send(Request("GET", str(NAMES[0]), str(NAMES[0])))

    assert isinstance(answer, NoResponse)
    assert answer.reason.startswith("ValueError")
