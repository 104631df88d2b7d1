"""Clocks for the drivers of requests, on which sleeps take no real time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.earth_engine.transport import drivers

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import pytest


class QuickTime:
    """Replaces the module `time` in the drivers: a sleep ends at once, and the clock advances by its seconds."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    time = staticmethod(time.time)


def let_time_fly(monkeypatch: pytest.MonkeyPatch) -> QuickTime:
    """Make the drivers' sleeps end at once, and remove the waits between two attempts."""
    clock = QuickTime()
    monkeypatch.setattr(drivers, "time", clock)
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    return clock


def run_quickly(coroutine: Coroutine[Any, Any, Any], clock: QuickTime) -> Any:
    """Run a coroutine whose sleeps end at once and advance the clock; timeouts use real time."""
    sleep = asyncio.sleep

    async def sleep_quickly(seconds: float) -> None:
        until = clock.monotonic() + seconds
        await sleep(min(seconds, 0.01))
        clock.slept += max(0.0, until - clock.monotonic())  # Parallel sleeps share the same seconds.

    with mock.patch.object(asyncio, "sleep", sleep_quickly):
        return asyncio.run(coroutine)
