from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.transport.rate_limiter import RATE, SLACK, SLOWEST, RateLimiter


def sent(limiter: RateLimiter, until: float, late: float = 0.0) -> list[float]:
    """Send as much as the limiter allows, each time waking up a little late; returns when."""
    now, moments = 0.0, []
    while now < until:
        if delay := limiter.delay(now):
            now += delay + late
        else:
            moments.append(now)
    return moments


def busiest_second(moments: list[float]) -> int:
    return max(sum(moment <= other < moment + 1.0 for other in moments) for moment in moments)


@given(st.floats(0.0, 0.5))
def test_no_second_has_more_requests_than_earth_engine_allows(late: float) -> None:
    assert busiest_second(sent(RateLimiter(), 3.0, late)) < 100


def test_being_a_little_late_costs_no_requests() -> None:
    assert len(sent(RateLimiter(), 10.0, late=SLACK / 4)) >= 10 * RATE - 10


def test_a_refusal_halves_the_rate_once_and_answers_bring_it_back() -> None:
    limiter = RateLimiter()

    for _ in range(30):
        limiter.answered(429, now=5.0)
    assert limiter.rate == RATE / 2

    for moment in range(10, 30):
        limiter.answered(429, now=float(moment))
    assert limiter.rate == SLOWEST

    for _ in range(500):
        limiter.answered(200, now=40.0)
    assert limiter.rate == RATE
