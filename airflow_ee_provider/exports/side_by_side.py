"""Starts side by side: what has become of them so far, recorded a few at a time and told in a few lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.model.log_text import are_few

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.exports.starter import Starter

#: Seconds between two records of what is started side by side, and between two lines about it.
RECORD_INTERVAL, LOG_INTERVAL = 0.5, 5.0


class Bulk:
    """Starts side by side: what has become of them so far.

    :param names: of what is started, by `Start.key`: these are added to them.
    :param total: of all that is to be started.
    :param found: how many of them were started before.
    """

    def __init__(self, starter: Starter, names: dict[str, str], total: int, found: int) -> None:
        self._starter, self._names, self._total = starter, names, total
        self._unrecorded: dict[str, str] = {}
        self._late: list[str] = []
        self._errors: list[tuple[Start, EarthEngineError]] = []
        #: Whether there is no room in the project's queue.
        self.is_full = False
        self._count = found
        self._recorded_at = float("-inf")
        self._began = self._told_at = time.monotonic()
        if found:
            self._log.info("%s of %s were started before, and go on.", f"{found:,}", f"{total:,}")

    @property
    def _log(self) -> Any:
        return self._starter._log  # noqa: SLF001 (a part of it)

    def is_unwanted(self, start: Start) -> bool:
        """Whether a start is not wanted any more; asked in the thread that is about to send it."""
        under_way = self._starter._under_way  # noqa: SLF001
        # Written down first: either `Starter.stop` finds it, or this finds that there was a stop.
        is_first = start.key not in under_way
        under_way[start.key] = start
        if not (self._starter.stopped or self._errors or self.is_full):
            return False
        if is_first:  # Otherwise Earth Engine may have acted on it.
            under_way.pop(start.key, None)
        return True

    def done(self, result: tuple[Start, Operation | EarthEngineError]) -> None:
        """Take an operation, or why it was not started; called in the task's own thread."""
        starter, (start, found) = self._starter, result
        if isinstance(found, QueueFullError):
            self.is_full = True
            starter._under_way.pop(start.key, None)  # noqa: SLF001
            return
        if isinstance(found, EarthEngineError):
            if not (starter.stopped or self._errors or self.is_full):
                self._errors.append((start, found))
                starter._under_way.pop(start.key, None)  # noqa: SLF001
            return
        name = str(found.name)
        starter.started[name] = description_of(start)
        starter._under_way.pop(start.key, None)  # noqa: SLF001
        self._names[start.key] = name
        self._count += 1
        if not starter.is_wanted:  # The answer has come after the kill.
            self._late.append(name)
            return
        self._unrecorded[name] = start.key
        if are_few(self._total):
            self._log.info("Started %s: %s%s", start.describe(), name, arrow_to(start))
        if time.monotonic() - self._recorded_at >= RECORD_INTERVAL:
            self.record()

    def record(self) -> None:
        """Write down what is not written down yet, and say how far this is."""
        if not self._unrecorded:
            return
        self._starter._record(self._unrecorded)  # noqa: SLF001
        self._unrecorded = {}
        self._recorded_at = now = time.monotonic()
        if not are_few(self._total) and now - self._told_at >= LOG_INTERVAL:
            self._told_at = now
            self._log.info("Started %s of %s.", f"{self._count:,}", f"{self._total:,}")

    def end(self) -> None:
        """Finish, once nothing is under way any more.

        :raises EarthEngineError: if something was not started.
        """
        self._starter.cancel_late(self._late)
        self.record()
        if self._starter.stopped:
            raise TransientError("The task was killed: nothing more is started.")
        if not are_few(self._total):
            seconds = time.monotonic() - self._began
            self._log.info("Started %s of %s in %.0f s.", f"{self._count:,}", f"{self._total:,}", seconds)
        if self.is_full:
            self._log.info("The project's queue is full: %s are left to be started.", f"{self._total - self._count:,}")
        for start, error in self._errors:
            if self._total > 1:
                self._log.error("%s could not be started: no more is.", start.describe())
            raise error


def description_of(start: Start) -> str:
    """Return what a person calls what is started."""
    return str(start.body.get("description") or "")


def arrow_to(start: Start) -> str:
    """Return where its output will be seen, for the end of a line; empty if that is not known."""
    from airflow_ee_provider.earth_engine.model.destinations import console_url_of

    url = console_url_of(start.body)
    return f" → {url}" if url else ""
