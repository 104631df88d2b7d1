"""Cancelling 3,000 pending operations at a server that enforces Earth Engine's limits."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serving import Served, emulator, table

from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Earth Engine's limit for one user and project.
PER_SECOND = 100
LIMITS = ("--requests-per-second", str(PER_SECOND), "--concurrent-requests", "40", "--latency", "0.05")


def blocking(names: list[str]) -> str:
    """Cancel and confirm with the synchronous hook: what operators and notifiers do."""
    return outcomes(EarthEngineHook().cancel_operations(names))


def on_the_event_loop(names: list[str]) -> str:
    """Cancel and confirm with the asynchronous hook: what a trigger does."""
    return outcomes(asyncio.run(EarthEngineAsyncHook().cancel_operations(names)))


#: A task's process that Airflow ends.
KILLED = """
import logging, sys
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.lifecycle.cancelling import cancel_before_the_end
cancel_before_the_end(EarthEngineHook(), sys.argv[1:], logging.getLogger())
"""


def killed(names: list[str]) -> str:
    """Cancel from a process that is killed after five seconds, as Airflow 3 does after SIGTERM."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", KILLED, *names], timeout=5.0, check=False)
    project = names[0].split("/")[1]
    while True:
        states = Counter(operation.state.value for operation in EarthEngineHook().list_operations(project))
        if states["CANCELLED"] == len(names):
            return f"{states['CANCELLED']:,} CANCELLED"
        time.sleep(1.0)


#: A worker, or a triggerer, that cancels its share and prints the results.
SHARE = """
import sys
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
for result in EarthEngineHook().cancel_operations(sys.argv[1:]):
    print("outcome", result.outcome.value)
"""

#: Four workers and two triggerers, which do not communicate.
TOGETHER = 6


def together(names: list[str]) -> str:
    """Cancel from several processes at the same time, each with its own rate limit."""
    shares = [names[first::TOGETHER] for first in range(TOGETHER)]
    command = [sys.executable, "-c", SHARE]
    processes = [subprocess.Popen([*command, *share], stdout=subprocess.PIPE, text=True) for share in shares]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    return count_by(line.split()[1] for line in lines if line.startswith("outcome "))


def outcomes(results: list[Any]) -> str:
    """Count the results by outcome."""
    return count_by(result.outcome.value for result in results)


def count_by(words: Iterable[str]) -> str:
    """Return each word with its count."""
    return ", ".join(f"{number:,} {outcome}" for outcome, number in Counter(words).items())


def official(served: Served) -> str:
    """Run what ``earthengine task cancel all`` runs, against the emulator."""
    import ee
    from ee.cli.commands import TaskCancelCommand
    from google.oauth2.credentials import Credentials

    class Config:
        def ee_init(self) -> None:
            ee.Initialize(credentials=Credentials(token="t"), url=served.url, project="demo")  # noqa: S106

    TaskCancelCommand(argparse.ArgumentParser()).run(argparse.Namespace(task_ids=["all"]), Config())
    return "not confirmed"


def measure(cancel: Callable[[Served, list[str]], str], count: int) -> tuple[float, str, Counter[int]]:
    """Return the seconds of a cancel, its result, and the responses' HTTP statuses."""
    with emulator("--pending-seconds", "1e6", "--cancel-seconds", "1", *LIMITS) as served:
        served.connect()
        names = served.add(
            {"description": "stale", "project": "demo", "pending_seconds": 1e6, "cancel_seconds": 1}
            for _ in range(count)
        )
        started = time.monotonic()
        said = cancel(served, names)
        seconds = time.monotonic() - started
        return seconds, said, Counter(entry["status"] for entry in served.journal())


def main() -> None:
    """Cancel in each way, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    count = parser.parse_args().count
    limit = count / PER_SECOND
    ways: dict[str, Callable[[Served, list[str]], str]] = {
        "`EarthEngineHook`": lambda _, names: blocking(names),
        "`EarthEngineAsyncHook`": lambda _, names: on_the_event_loop(names),
        f"`EarthEngineHook`, in {TOGETHER} processes at once": lambda _, names: together(names),
        "a task that is killed after 5 s": lambda _, names: killed(names),
        "`earthengine task cancel all`": lambda served, _: official(served),
    }
    measured = {way: measure(cancel, count) for way, cancel in ways.items()}
    slowest = max(seconds for seconds, _, _ in measured.values())
    rows = [
        [
            way,
            f"{seconds:.1f}",
            f"{seconds / limit:.2f}",
            f"{slowest / seconds:.1f}",
            f"{sum(statuses.values()):,}",
            f"{statuses[429]:,}",
            said,
        ]
        for way, (seconds, said, statuses) in measured.items()
    ]
    print("RESULT")
    print(
        f"Cancelling {count:,} pending operations at 50 ms latency, 100 requests a second, 40 concurrent. The shortest"
    )
    print(f"possible time is {limit:g} s.\n")
    print(table(rows, "with", "seconds", "times the limit", "times faster", "requests", "refused", "result"))


if __name__ == "__main__":
    main()
