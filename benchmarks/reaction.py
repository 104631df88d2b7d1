"""The time from a kill to the cancel request."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from statistics import quantiles

from serving import Served, emulator, table

from airflow_ee_provider.earth_engine.transport.shared_poller import SHORTEST_WAIT
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationsTrigger

REPEATED = 50


async def trigger_killed(name: str) -> float:
    """Kill a waiting trigger, as Airflow does; return the time of the kill."""
    trigger = EarthEngineOperationsTrigger(
        operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=30, cancel_on_kill=True
    )
    running = asyncio.create_task(anext(trigger.run()))  # type: ignore[arg-type]
    await asyncio.sleep(0.3)
    killed = time.time()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await trigger.on_kill()
    return killed


def sensor_killed(name: str) -> float:
    """Kill a task that waits in a worker; return the time of the kill."""
    sensor = EarthEngineOperationsSensor(task_id="wait", operation_names=[name], cancel_on_kill=True)
    sensor.poke({})
    killed = time.time()
    sensor.on_kill()
    return killed


def reaction(served: Served, name: str, killed: float) -> float:
    """Return the milliseconds from the kill to the emulator's response to the cancel request."""
    return min(1000 * (e["time"] - killed) for e in served.journal() if e["path"] == f"{name}:cancel")


def main() -> None:
    """Kill repeatedly, and print the times."""
    rows = []
    with emulator() as served:
        served.connect()
        for who, kill in (
            ("a deferred task's trigger", lambda name: asyncio.run(trigger_killed(name))),
            ("a task in a worker", sensor_killed),
        ):
            found = []
            for _ in range(REPEATED):
                [name] = served.add([{"pending_seconds": 0, "run_seconds": 1e6, "cancel_seconds": 0}])
                found.append(reaction(served, name, kill(name)))
            cut = quantiles(found, n=100)
            rows.append([who, f"{cut[49]:.0f}", f"{cut[98]:.0f}"])
    print("RESULT")
    print(
        f"From `on_kill` to the cancel request, {REPEATED} times each. The provider reads the operation's state "
        f"first. A trigger's read waits for {SHORTEST_WAIT} s, so that the triggers that are killed with it share "
        "its request.\n"
    )
    print(table(rows, "killed", "median, ms", "99 %, ms"))


if __name__ == "__main__":
    main()
