"""Runs a flow against canned responses, without a clock and without a socket."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_ee_provider.earth_engine.protocol.effects import (
    Flow,
    LogMessage,
    MonotonicTime,
    NoResponse,
    ReadOperations,
    Request,
    Response,
    SideBySide,
    Sleep,
    WallClock,
)
from airflow_ee_provider.earth_engine.protocol.reading import read_operations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
#: The time of the machine's clock: noon on 24 November 2026.
WALL_CLOCK = 1_795_521_600.0

NAME = "projects/p/operations/ABC"


@dataclass
class Played(Generic[T]):
    """The outcome of a flow, and the effects that it asked for."""

    result: T | None = None
    error: Exception | None = None
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    notes: list[LogMessage] = field(default_factory=list)

    @property
    def sent(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


def play(flow: Flow[T], answers: Iterable[Any]) -> Played[T]:
    """Respond to the requests in order; time passes only in sleeps, and parallel flows run one after the other."""
    played: Played[T] = Played()
    try:
        played.result = _drive(flow, played, iter(answers))
    except Exception as error:  # noqa: BLE001 (tests check the error)
        played.error = error
    return played


def _drive(flow: Flow[Any], played: Played[Any], answers: Iterator[Any]) -> Any:
    answer: Any = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = None
        if isinstance(effect, Request):
            played.requests.append(effect)
            answer = next(answers)
        elif isinstance(effect, Sleep):
            played.sleeps.append(effect.seconds)
        elif isinstance(effect, (MonotonicTime, WallClock)):
            answer = sum(played.sleeps) + (WALL_CLOCK if isinstance(effect, WallClock) else 0)
        elif isinstance(effect, ReadOperations):
            played.sleeps += [effect.after] if effect.after else []
            until = None if effect.within is None else sum(played.sleeps) + effect.within
            answer = _drive(read_operations(effect.names, until), played, answers)
        elif isinstance(effect, SideBySide):
            answer = []
            for together in effect.flows:
                answer.append(_drive(together, played, answers))
                effect.as_done(answer[-1])
        elif isinstance(effect, LogMessage):
            played.notes.append(effect)


def ok(payload: Any = None) -> Response:
    return Response(200, json.dumps({} if payload is None else payload).encode())


def refused(http_status: int, status: str = "", message: str = "no", **headers: str) -> Response:
    error: dict[str, Any] = {"code": http_status, "message": message}
    error |= {"status": status} if status else {}
    return Response(http_status, json.dumps({"error": error}).encode(), headers)


def lost() -> NoResponse:
    return NoResponse("ConnectionResetError")


def operation(state: str, name: str = NAME, **metadata: Any) -> dict[str, Any]:
    payload: dict[str, Any] = {"name": name, "metadata": {"state": state, **metadata}}
    if state in ("SUCCEEDED", "FAILED", "CANCELLED"):
        payload["done"] = True
    if state == "FAILED":
        payload["error"] = {"code": 3, "message": "User memory limit exceeded."}
    if state == "CANCELLED":
        payload["error"] = {"code": 1, "message": "Cancelled."}
    return payload
