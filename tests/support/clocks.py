"""Time that passes at once, for what the drivers of requests wait for."""

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
    """Stands for the module `time` in the drivers: a sleep is over at once, and its seconds have passed."""

    def __init__(self) -> None:
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    time = staticmethod(time.time)


def let_time_fly(monkeypatch: pytest.MonkeyPatch) -> QuickTime:
    """Let nothing sleep that a driver is to let sleep; between two attempts nothing is waited."""
    clock = QuickTime()
    monkeypatch.setattr(drivers, "time", clock)
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    return clock


def run_quickly(coroutine: Coroutine[Any, Any, Any], clock: QuickTime) -> Any:
    """Run a coroutine in which a sleep is over at once, and its seconds have passed; time-outs keep to real time."""
    sleep = asyncio.sleep

    async def sleep_quickly(seconds: float) -> None:
        until = clock.monotonic() + seconds
        await sleep(min(seconds, 0.01))
        clock.slept += max(0.0, until - clock.monotonic())  # Those that sleep side by side sleep the same seconds.

    with mock.patch.object(asyncio, "sleep", sleep_quickly):
        return asyncio.run(coroutine)
