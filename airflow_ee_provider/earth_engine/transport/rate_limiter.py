"""How fast requests may follow each other: Earth Engine allows 100 a second and 40 at once."""

from __future__ import annotations

import threading

from airflow_ee_provider.earth_engine.model.limits import RATE

#: Seconds of being late that are made up for: more, and what was late would come in a burst.
SLACK = 0.02

#: The slowest, and by how much each answer that was not refused brings the rate back up.
SLOWEST, RECOVERY = 1.0, 1.02


class RateLimiter:
    """Spread requests evenly; slow down when Earth Engine refuses some for being too many, and speed up again.

    It knows no clock: times are given, in seconds. Safe to be used from several threads.
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
        """Learn from an answer."""
        with self._lock:
            if http_status != 429:
                self.rate = min(self._fastest, self.rate * RECOVERY)
            elif now - self._slowed >= 1.0:  # Many are refused at once: that is one reason, not many.
                self.rate = max(SLOWEST, self.rate / 2)
                self._slowed = now
