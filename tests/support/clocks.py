"""Time that passes at once, for what the drivers of requests wait for."""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.earth_engine.transport import drivers

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import pytest


class QuickTime:
    """Stands for the module `time` in the drivers: a sleep is over at once, and its seconds have passed.

    :param pace: how much faster than real time the rest of it passes.
    """

    def __init__(self, pace: float = 1.0) -> None:
        self.slept, self.pace = 0.0, pace

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def monotonic(self) -> float:
        return time.monotonic() * self.pace + self.slept

    time = staticmethod(time.time)


def let_time_fly(monkeypatch: pytest.MonkeyPatch) -> QuickTime:
    """Let nothing sleep that a driver is to let sleep; between two attempts nothing is waited."""
    clock = QuickTime()
    monkeypatch.setattr(drivers, "time", clock)
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    return clock


class _Select(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> Any:
        return super().select(None if timeout is None else timeout / QuickLoop.PACE)


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop in which time passes faster."""

    PACE = 20.0

    def __init__(self) -> None:
        super().__init__(_Select())

    def time(self) -> float:
        return super().time() * self.PACE


def run_quickly(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a `QuickLoop`."""
    loop = QuickLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
