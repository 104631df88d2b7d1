"""Record and log operations that a task starts in parallel: several in one record, and in few log lines."""

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

#: Seconds between two records, and between two log lines, while operations are started in parallel.
RECORD_INTERVAL, LOG_INTERVAL = 0.5, 5.0


class Batch:
    """The progress of a task that starts operations in parallel.

    :param total: How many operations the task needs.
    :param found: How many of them were started before.
    :param record: Called with operations by name, each with its `Start.key`.
    """

    def __init__(self, total: int, found: int, record: Callable[[dict[str, str]], None], log: Log) -> None:
        self._total, self._count, self._record, self._log = total, found, record, log
        self._unrecorded: dict[str, str] = {}
        self._recorded_at = float("-inf")
        self._began = self._logged_at = time.monotonic()
        #: Whether the project's queue is full.
        self.is_full = False
        #: The start that failed, with its error.
        self.failure: tuple[Start, EarthEngineError] | None = None
        #: Operations whose starts Earth Engine answered after the task had cancelled the others.
        self.late: list[str] = []
        if found:
            self._log.info("Continuing with %s of %s operations, started before.", f"{found:,}", f"{total:,}")

    @property
    def is_over(self) -> bool:
        """Whether the task starts no more operations now."""
        return self.is_full or self.failure is not None

    def add(self, start: Start, name: str) -> None:
        """Add an operation that was started. It is recorded, with others, within `RECORD_INTERVAL`."""
        self._count += 1
        self._unrecorded[name] = start.key
        if is_short_list(self._total):
            log_started(self._log, start, name)
        if time.monotonic() - self._recorded_at >= RECORD_INTERVAL:
            self.record()

    def record(self) -> None:
        """Record the operations that are not recorded yet."""
        if not self._unrecorded:
            return
        self._record(self._unrecorded)
        self._unrecorded = {}
        self._recorded_at = now = time.monotonic()
        if not is_short_list(self._total) and now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._log.info("Started %s of %s operations.", f"{self._count:,}", f"{self._total:,}")

    def log_end(self) -> None:
        """Log how many operations are started, and which start failed."""
        if not is_short_list(self._total):
            seconds = time.monotonic() - self._began
            self._log.info("Started %s of %s operations in %.0f s.", f"{self._count:,}", f"{self._total:,}", seconds)
        if self.is_full:
            remaining = f"{self._total - self._count:,}"
            self._log.info("The project's queue is full; %s operations are not started yet.", remaining)
        if self.failure and self._total > 1:
            self._log.error("Failed to start %s; not starting the remaining operations.", self.failure[0].describe())


def log_started(log: Log, start: Start, name: str) -> None:
    """Log an operation that was started, with a link to its output if there is one."""
    url = console_url_of(start.body)
    log.info("Started %s: %s%s", start.describe(), name, f" → {url}" if url else "")
