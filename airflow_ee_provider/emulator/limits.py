"""How many requests the emulated service stands: what the real one allows, if that is wanted."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_ee_provider.emulator.faults import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Limits:
    """Limits, each of them None for none; Earth Engine's own are 100 requests a second and 40 at once.

    :param per_second: requests in any second.
    :param concurrent: requests at the same time.
    :param latency: seconds that each request takes besides.
    """

    per_second: int | None = None
    concurrent: int | None = None
    latency: float = 0.0


class Gate:
    """Counts requests, and refuses those that are too many."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._under_way = 0
        self._admitted: deque[float] = deque()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in for as long as it takes.

        :raises ApiError: RESOURCE_EXHAUSTED, if it is one too many.
        """
        now = time.monotonic()
        while self._admitted and self._admitted[0] <= now - 1.0:
            self._admitted.popleft()
        if self.limits.per_second is not None and len(self._admitted) >= self.limits.per_second:
            raise ApiError("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests' and limit 'per second'.")
        if self.limits.concurrent is not None and self._under_way >= self.limits.concurrent:
            raise ApiError("RESOURCE_EXHAUSTED", "Too many concurrent requests.")
        self._admitted.append(now)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
