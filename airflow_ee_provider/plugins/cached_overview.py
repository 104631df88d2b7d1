"""Overviews of operations, read once for all who look at the page at the same time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_ee_provider.tracking.database import visible_connections
from airflow_ee_provider.tracking.overview import LONG, LONG_STANDS, ActiveOverviews, Overview, read_overview

if TYPE_CHECKING:
    from collections.abc import Callable

#: For how long what was read is shown to others, in seconds.
KEPT = 5.0

#: How long a browser waits for a new answer before it gets the last one, in seconds.
PATIENCE = 10.0


def of_active() -> CachedOverview:
    """Return the overview of all active operations of the connections that are shown."""
    overviews = ActiveOverviews()
    return CachedOverview(lambda: overviews.read(visible_connections()))


def of_everything() -> CachedOverview:
    """Return the overview that has those that have ended, too; a long one is read once a minute."""
    return CachedOverview(lambda: read_overview(visible_connections(), also_ended=True), long_kept=LONG_STANDS)


class CachedOverview:
    """One reading at a time, in a thread of its own; used on one event loop.

    :param read: reads it.
    :param kept: seconds for which an overview is shown to others.
    :param long_kept: the same for one of many operations.
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
        """Return what was read, and how many seconds ago.

        :raises TimeoutError: if nothing was read yet, and reading takes long.
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
                reading.result()  # Whatever has gone wrong.
        if self._latest is None:
            raise TimeoutError("It is being read.")
        return self._latest, self._latest.age + time.monotonic() - self._read_at

    def forget(self) -> None:
        """Let the next look read anew."""
        self._read_at = float("-inf")

    def _keep(self, reading: asyncio.Future[Overview]) -> None:
        self._reading = None
        if not reading.cancelled() and reading.exception() is None:
            self._latest, self._read_at = reading.result(), time.monotonic()
