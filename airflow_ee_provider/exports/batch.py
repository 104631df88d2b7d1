"""Operations that are started side by side: recorded a few at a time, logged in a few lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.destinations import console_url_of
from airflow_ee_provider.earth_engine.model.log_text import is_short_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import Log

#: Seconds between two records of what is started side by side, and between two lines about it.
RECORD_INTERVAL, LOG_INTERVAL = 0.5, 5.0


class Batch:
    """How far a task is with what it starts side by side.

    :param total: how many operations the task wants.
    :param found: how many of them were started before.
    :param record: called with operations by name, each with its `Start.key`.
    """

    def __init__(self, total: int, found: int, record: Callable[[dict[str, str]], None], log: Log) -> None:
        self._total, self._count, self._record, self._log = total, found, record, log
        self._unrecorded: dict[str, str] = {}
        self._recorded_at = float("-inf")
        self._began = self._logged_at = time.monotonic()
        #: Whether the project's queue has no room for more.
        self.is_full = False
        #: What could not be started, and why.
        self.failure: tuple[Start, EarthEngineError] | None = None
        #: Operations of which Earth Engine has answered only after the task had cancelled the others.
        self.late: list[str] = []
        if found:
            self._log.info("%s of %s were started before, and are kept.", f"{found:,}", f"{total:,}")

    @property
    def is_over(self) -> bool:
        """Whether no more is started."""
        return self.is_full or self.failure is not None

    def add(self, start: Start, name: str) -> None:
        """Take an operation that was started, and record it, with others, within `RECORD_INTERVAL`."""
        self._count += 1
        self._unrecorded[name] = start.key
        if is_short_list(self._total):
            log_started(self._log, start, name)
        if time.monotonic() - self._recorded_at >= RECORD_INTERVAL:
            self.record()

    def record(self) -> None:
        """Record what is not recorded yet."""
        if not self._unrecorded:
            return
        self._record(self._unrecorded)
        self._unrecorded = {}
        self._recorded_at = now = time.monotonic()
        if not is_short_list(self._total) and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._log.info("Started %s of %s.", f"{self._count:,}", f"{self._total:,}")

    def log_end(self) -> None:
        """Log how many are started, and which could not be."""
        if not is_short_list(self._total):
            seconds = time.monotonic() - self._began
            self._log.info("Started %s of %s in %.0f s.", f"{self._count:,}", f"{self._total:,}", seconds)
        if self.is_full:
            self._log.info("The project's queue is full: %s are left to be started.", f"{self._total - self._count:,}")
        if self.failure and self._total > 1:
            self._log.error("%s could not be started: no more is.", self.failure[0].describe())


def log_started(log: Log, start: Start, name: str) -> None:
    """Log what was started, and where its output will be seen, if that is known."""
    url = console_url_of(start.body)
    log.info("Started %s: %s%s", start.describe(), name, f" → {url}" if url else "")
