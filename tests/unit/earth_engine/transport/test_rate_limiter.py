from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_ee_provider.earth_engine.transport.rate_limiter import RATE, SLACK, SLOWEST, RateLimiter


def sent(limiter: RateLimiter, until: float, late: float = 0.0) -> list[float]:
    """Send as many requests as the limiter allows, each a little late; return their times."""
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


def test_waking_up_a_little_late_costs_no_requests() -> None:
    assert len(sent(RateLimiter(), 10.0, late=SLACK / 4)) >= 10 * RATE - 10


def test_refusals_halve_the_rate_once_and_successes_restore_it() -> None:
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
