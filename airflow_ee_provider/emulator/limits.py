"""Limit the requests to the emulated service, if a test sets limits."""

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
    """Limits for requests. Earth Engine's own are 100 requests a second and 40 at the same time.

    :param per_second: The most requests in any second; None for no limit.
    :param concurrent: The most requests at the same time; None for no limit.
    :param latency: Seconds to add to each request.
    """

    per_second: int | None = None
    concurrent: int | None = None
    latency: float = 0.0


class Gate:
    """Counts requests, and refuses those above the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._under_way = 0
        self._admitted: deque[float] = deque()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Admit a request, and count it until the block ends.

        :raises ApiError: RESOURCE_EXHAUSTED, if the request is above a limit.
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
