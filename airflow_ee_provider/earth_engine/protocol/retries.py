"""How often a request is sent, and the delays between its attempts."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.protocol.effects import (
    Flow,
    LogMessage,
    Measurement,
    MonotonicTime,
    NoResponse,
    Request,
    Response,
    Sleep,
)
from airflow_ee_provider.earth_engine.protocol.error_rules import parse_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.protocol.effects import Effect

T = TypeVar("T")

_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Backoff:
    """How often and how long a request is repeated: exponential back-off with full jitter.

    :param attempts: The most attempts.
    :param initial_delay: The upper bound of the first delay, in seconds; it doubles with each attempt.
    :param max_delay: The upper bound of each delay without a ``Retry-After``, in seconds.
    :param max_retry_after: The longest ``Retry-After`` to wait for, in seconds; a longer one is an error at once.
    """

    attempts: int = 6
    initial_delay: float = 1.0
    max_delay: float = 32.0
    max_retry_after: float = 300.0
    jitter: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def delay(self, attempt: int, retry_after: float | None) -> float | None:
        """Return the seconds until the attempt after the ``attempt``-th (from 1); None if no attempt follows."""
        if attempt >= self.attempts or (retry_after or 0.0) > self.max_retry_after:
            return None
        return max(
            retry_after or 0.0, self.jitter.uniform(0.0, min(self.max_delay, self.initial_delay * 2.0 ** (attempt - 1)))
        )


BACKOFF = Backoff()


def call(request: Request, backoff: Backoff = BACKOFF) -> Flow[dict[str, Any]]:
    """Send a request, with retries, and return the response's JSON object.

    :raises EarthEngineError: Of the class in `RULES`; a `TransientError` if no attempt remains.
    """
    payload, _ = yield from request_with_answer(request, backoff)
    return payload


def request_with_answer(request: Request, backoff: Backoff = BACKOFF) -> Flow[tuple[dict[str, Any], Response]]:
    """Do the same as `call`, and also return the response itself."""
    attempt = 0
    while True:
        attempt += 1
        answer = yield request
        result = parse_response(request, answer)
        if not isinstance(result, EarthEngineError):
            return result, answer
        delay = backoff.delay(attempt, _retry_after(answer))
        # A queue has room again after minutes, not seconds: the code that starts exports waits for that.
        is_hopeless = result.permanent or isinstance(result, QueueFullError)
        if is_hopeless or not request.repeatable or delay is None:
            raise result
        yield Measurement("request_retries")
        yield LogMessage(
            f"{result} Trying again in {delay:.1f} s (attempt {attempt} of {backoff.attempts}).", warning=True
        )
        yield Sleep(delay)


def attempt(flow: Flow[T]) -> Flow[T | EarthEngineError]:
    """Run a flow; return its `EarthEngineError` instead of raising it, so that the flows beside it can finish."""
    try:
        return (yield from flow)
    except EarthEngineError as error:
        return error


def checked(flow: Flow[T], check: Callable[[Effect], Flow[None]]) -> Flow[T]:
    """Run a flow, and check each of its effects first.

    :param check: Returns a flow that raises an error to stop ``flow``.
    """
    answer: Any = None
    while True:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        yield from check(effect)
        answer = yield effect


def within(flow: Flow[T], until: float | None) -> Flow[T]:
    """Run a flow that must not wait beyond a moment of the monotonic clock.

    :param until: The moment; None for no limit.
    :raises TransientError: If the flow would have to wait longer.
    """
    if until is None:
        return flow
    subject = ""

    def check(effect: Effect) -> Flow[None]:
        nonlocal subject
        if isinstance(effect, Request):
            subject = effect.subject
        if isinstance(effect, Sleep) and (yield MonotonicTime()) + effect.seconds > until:
            raise TransientError(
                "Earth Engine asked to wait longer (Retry-After) than the remaining time.", subject=subject
            )

    return checked(flow, check)


def _retry_after(answer: Response | NoResponse) -> float | None:
    """Return the seconds of a ``Retry-After``. If it is a date, they are counted by the server's own clock."""
    if not isinstance(answer, Response):
        return None
    value = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until, now = _http_date(value), server_time(answer) if value else None
    return max(0.0, (until - now).total_seconds()) if until and now else None


def server_time(answer: Response) -> datetime | None:
    """Return a response's time by Earth Engine's clock, since this machine's may be wrong; None if it has none."""
    return _http_date(answer.headers.get("date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        _ = date.timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
