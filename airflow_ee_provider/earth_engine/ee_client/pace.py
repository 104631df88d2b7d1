"""How fast a function starts operations, and whether they could be started side by side."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.limits import CONCURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many starts, and how many seconds for all of them, are worth a line in the log.
MANY, SLOW = 20, 5.0

_OPERATIONS = re.compile(r".*/projects/[^/?]+/operations\b.*")


class Pace:
    """What is known of the starts that a function has made one by one."""

    def __init__(self) -> None:
        self._count, self._seconds = 0, 0.0
        self._in_flight = 0
        #: Whether the function starts several at once, or asks about operations before it has started the last one.
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
        """Take note of another request."""
        self._has_asked = self._has_asked or (self._count > 0 and bool(_OPERATIONS.fullmatch(uri)))

    def hint(self) -> str:
        """Return a hint for the log, if the starts took long; empty otherwise."""
        if self._is_its_own or self._count < MANY or self._seconds < SLOW:
            return ""
        return (
            f"{self._count:,} starts took {self._seconds:.0f} s, one by one. With batch_starts=True, up to "
            f"{CONCURRENT} of them start in parallel after the function has returned."
        )
