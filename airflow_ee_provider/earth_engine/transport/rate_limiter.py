"""How fast requests may follow each other: Earth Engine allows 100 a second."""

from __future__ import annotations

import threading

from airflow_ee_provider.earth_engine.model.limits import RATE

#: A request that is late by up to this number of seconds does not delay the next ones. A higher value allows bursts.
SLACK = 0.02

#: The lowest rate, and the factor by which each response other than 429 raises the rate again.
SLOWEST, RECOVERY = 1.0, 1.02


class RateLimiter:
    """Spreads requests evenly; slows down when Earth Engine refuses requests as too many (429), and speeds up again.

    It reads no clock: the caller passes the time, in seconds. Several threads can use it.
    """

    def __init__(self, rate: float = RATE) -> None:
        self.rate = self._fastest = rate
        self._next = self._slowed = float("-inf")
        self._lock = threading.Lock()

    def delay(self, now: float) -> float:
        """Return 0.0 if a request may be sent now, and count it; otherwise the seconds after which to ask again."""
        with self._lock:
            if now < self._next:
                return self._next - now
            self._next = max(self._next, now - SLACK) + 1.0 / self.rate
            return 0.0

    def answered(self, http_status: int, now: float) -> None:
        """Adapt the rate to a response."""
        with self._lock:
            if http_status != 429:
                self.rate = min(self._fastest, self.rate * RECOVERY)
            elif now - self._slowed >= 1.0:  # Many refusals at the same time count as one.
                self.rate = max(SLOWEST, self.rate / 2)
                self._slowed = now
