"""How often a request is sent, and how long is waited in between."""

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

    :param attempts: how often it is sent at most.
    :param initial_delay: the upper bound of the first wait, in seconds; doubled each time.
    :param max_delay: the upper bound of any wait that we choose, in seconds.
    :param max_retry_after: the longest ``Retry-After`` waited for, in seconds; a longer one is an error at once.
    """

    attempts: int = 6
    initial_delay: float = 1.0
    max_delay: float = 32.0
    max_retry_after: float = 300.0
    jitter: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def delay(self, attempt: int, retry_after: float | None) -> float | None:
        """Seconds until the next attempt after the ``attempt``-th (from 1); None if there is to be none."""
        if attempt >= self.attempts or (retry_after or 0.0) > self.max_retry_after:
            return None
        return max(
            retry_after or 0.0, self.jitter.uniform(0.0, min(self.max_delay, self.initial_delay * 2.0 ** (attempt - 1)))
        )


BACKOFF = Backoff()


def call(request: Request, backoff: Backoff = BACKOFF) -> Flow[dict[str, Any]]:
    """Send a request until it is answered, and return the answer's JSON object.

    :raises EarthEngineError: of the class that `RULES` gives, or `TransientError` when the attempts are used up.
    """
    payload, _ = yield from request_with_answer(request, backoff)
    return payload


def request_with_answer(request: Request, backoff: Backoff = BACKOFF) -> Flow[tuple[dict[str, Any], Response]]:
    """`call`, and the answer that had the object."""
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
    """Return an error of Earth Engine's instead of raising it, so that what runs beside it can finish."""
    try:
        return (yield from flow)
    except EarthEngineError as error:
        return error


def checked(flow: Flow[T], check: Callable[[Effect], Flow[None]]) -> Flow[T]:
    """Carry a flow on, and let each thing that it asks for be checked first.

    :param check: a flow that raises to stop it.
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
    """Seconds asked for by ``Retry-After``, given as such or as a date (then measured by the server's own clock)."""
    if not isinstance(answer, Response):
        return None
    value = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until, now = _http_date(value), server_time(answer) if value else None
    return max(0.0, (until - now).total_seconds()) if until and now else None


def server_time(answer: Response) -> datetime | None:
    """When that was by Earth Engine's clock: this machine's may be wrong. None if the answer does not say."""
    return _http_date(answer.headers.get("date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        _ = date.timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
