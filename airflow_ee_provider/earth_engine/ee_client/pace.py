"""Measures how fast a function starts operations, to log whether ``batch_starts`` would be faster."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.limits import CONCURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The fewest starts, and the fewest seconds for all of them, for which the log gets a hint.
MANY, SLOW = 20, 5.0

_OPERATIONS = re.compile(r".*/projects/[^/?]+/operations\b.*")


class Pace:
    """Measures the starts that a function makes one by one."""

    def __init__(self) -> None:
        self._count, self._seconds = 0, 0.0
        self._in_flight = 0
        #: Whether the function starts operations in parallel or requests operations between its starts, so that the
        #: hint does not apply; and whether it has requested operations since its first start.
        self._is_its_own = self._has_asked = False

    @contextmanager
    def start(self) -> Iterator[None]:
        """Measure a start."""
        self._is_its_own = self._is_its_own or self._in_flight > 0 or self._has_asked
        self._in_flight += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self._in_flight -= 1
            self._count, self._seconds = self._count + 1, self._seconds + time.monotonic() - began

    def request(self, uri: str) -> None:
        """Note a request that starts no operation."""
        self._has_asked = self._has_asked or (self._count > 0 and bool(_OPERATIONS.fullmatch(uri)))

    def hint(self) -> str:
        """Return a hint for the log, if the starts took long; empty otherwise."""
        if self._is_its_own or self._count < MANY or self._seconds < SLOW:
            return ""
        return (
            f"{self._count:,} starts took {self._seconds:.0f} s, one by one. With batch_starts=True, up to "
            f"{CONCURRENT} of them start in parallel after the function has returned."
        )
