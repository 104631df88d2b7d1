"""One process that waits for many operations: with the provider's trigger, or with a polling coroutine for each.

Prints one line of JSON; `watch.py` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.api_methods import get_operation
from airflow_ee_provider.earth_engine.protocol.retries import attempt
from airflow_ee_provider.earth_engine.transport.drivers import run_async
from airflow_ee_provider.earth_engine.transport.rate_limiter import RateLimiter
from airflow_ee_provider.earth_engine.transport.transports import AiohttpTransport, aiohttp_session
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

LOG = logging.getLogger(__name__)


async def with_triggers(names: list[str], interval: float, ended: dict[str, float]) -> None:
    """Run the provider's triggers, one for each operation, as the triggerer does."""

    async def wait(name: str) -> None:
        trigger = EarthEngineOperationsTrigger(
            operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=interval
        )
        async for event in trigger.run():
            [operation] = event.payload["result"]
            ended[name] = time.time() - datetime.fromisoformat(operation["end_time"]).timestamp()
            return

    tasks = []
    for name in names:
        await asyncio.sleep(0)  # As the triggerer does.
        tasks.append(asyncio.create_task(wait(name)))
    await asyncio.gather(*tasks)


async def one_by_one(names: list[str], interval: float, ended: dict[str, float]) -> None:
    """Poll each operation separately, as other providers do, but with one session for all."""
    account = await EarthEngineAsyncHook().open()
    async with await aiohttp_session() as session:
        transport = AiohttpTransport(session, account.base_url, account.credentials)
        transport._limiter = RateLimiter(rate=1e9)  # No rate limit.

        async def wait(name: str) -> None:
            await asyncio.sleep(interval * hash(name) / 2**64 % interval)
            while True:
                operation = await run_async(attempt(get_operation(OperationName.parse(name))), transport, LOG)
                if isinstance(operation, Operation) and operation.end_time:  # Polling continues after an error.
                    ended[name] = time.time() - operation.end_time.timestamp()
                    return
                await asyncio.sleep(interval)

        await asyncio.gather(*(wait(name) for name in names))


async def measure(how: Any, names: list[str], interval: float, seconds: float) -> dict[str, Any]:
    """Wait for all operations for some time, and return the measurements."""
    ended: dict[str, float] = {}
    lags = [0.0]

    async def watch_the_loop() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            lags.append(time.monotonic() - before - 0.1)

    before, started = psutil.Process().memory_info().rss, time.process_time()
    tasks = [asyncio.create_task(how(names, interval, ended)), asyncio.create_task(watch_the_loop())]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    cpu = time.process_time() - started
    memory = psutil.Process().memory_info().rss - before
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task  # Raises the task's error, if there was one.
    return {"delays": list(ended.values()), "cpu": cpu, "memory": memory, "lag": max(lags), "seconds": seconds}


def main() -> None:
    """Wait, and print the measurements."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["triggers", "one_by_one"])
    parser.add_argument("names", type=Path)
    parser.add_argument("--interval", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.WARNING)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    how = with_triggers if options.how == "triggers" else one_by_one
    names = json.loads(options.names.read_text(encoding="utf-8"))
    print(json.dumps(asyncio.run(measure(how, names, options.interval, options.seconds))))


if __name__ == "__main__":
    main()
