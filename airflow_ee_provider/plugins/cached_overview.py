"""Cached overviews of operations. All users who open the page at the same time share one read."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_ee_provider.tracking.database import visible_connections
from airflow_ee_provider.tracking.overview import LONG, LONG_STANDS, ActiveOverviews, Overview, read_overview

if TYPE_CHECKING:
    from collections.abc import Callable

#: How long an overview is used for further requests, in seconds.
KEPT = 5.0

#: How long a request waits for a new overview before it gets the last one, in seconds.
PATIENCE = 10.0


def of_active() -> CachedOverview:
    """Return the cached overview of all active operations of the visible connections."""
    overviews = ActiveOverviews()
    return CachedOverview(lambda: overviews.read(visible_connections()))


def of_everything() -> CachedOverview:
    """Return the cached overview that includes ended operations. A long one is read once a minute."""
    return CachedOverview(lambda: read_overview(visible_connections(), also_ended=True), long_kept=LONG_STANDS)


class CachedOverview:
    """A cache for an overview. One thread reads it; only one event loop may use it.

    :param read: Reads the overview.
    :param kept: How long an overview is used for further requests, in seconds.
    :param long_kept: The same for an overview with many operations.
    :param patience: How long a request waits for a new overview, in seconds.
    """

    def __init__(
        self,
        read: Callable[[], Overview],
        kept: float = KEPT,
        long_kept: float | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._read, self._patience = read, patience
        self._kept, self._long_kept = kept, kept if long_kept is None else long_kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="earth-engine-overview")
        self._reading: asyncio.Future[Overview] | None = None
        self._latest: Overview | None = None
        self._read_at = float("-inf")

    async def get(self) -> tuple[Overview, float]:
        """Return the overview and its age in seconds.

        :raises TimeoutError: If there is no overview yet, and reading one takes longer than ``patience``.
        """
        is_long = self._latest is not None and len(self._latest.operations) > LONG
        kept = self._long_kept if is_long else self._kept
        if self._latest is None or time.monotonic() - self._read_at > kept:
            if self._reading is None:
                self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read)
                self._reading.add_done_callback(self._keep)
            reading = self._reading
            await asyncio.wait({reading}, timeout=self._patience)
            if reading.done() and self._latest is None:
                reading.result()  # Raises the error of the read.
        if self._latest is None:
            raise TimeoutError("The overview is still being read.")
        return self._latest, self._latest.age + time.monotonic() - self._read_at

    def forget(self) -> None:
        """Let the next request read the overview again."""
        self._read_at = float("-inf")

    def _keep(self, reading: asyncio.Future[Overview]) -> None:
        self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            self._latest, self._read_at = reading.result(), time.monotonic()
