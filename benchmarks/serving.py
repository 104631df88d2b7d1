"""What the benchmarks share: an emulator in a process of its own, so that only the client's CPU-time is measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


#: The command line of this environment's Airflow.
AIRFLOW = str(Path(sys.executable).parent / "airflow")


class Served:
    """A running emulator."""

    def __init__(self, url: str) -> None:
        self.url = url

    def add(self, operations: Iterable[dict[str, Any]]) -> list[str]:
        """Add operations, and return their names."""

        async def add_all() -> list[str]:
            import aiohttp

            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=20)) as session:

                async def add(operation: dict[str, Any]) -> str:
                    async with session.post(f"{self.url}/emulator/operations", json=operation) as answer:
                        return str((await answer.json())["name"])

                return await asyncio.gather(*map(add, operations))

        return asyncio.run(add_all())

    def journal(self) -> list[dict[str, Any]]:
        """Return all requests."""
        entries: list[dict[str, Any]] = requests.get(f"{self.url}/emulator/journal", timeout=120).json()
        return entries

    def connect(self) -> None:
        """Let ``earth_engine_default`` lead there, in this process and its children."""
        extra = {"project": "demo", "is_anonymous": True}
        connection = {"conn_type": "earth_engine", "host": self.url, "extra": extra}
        os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"] = json.dumps(connection)


def table(rows: Iterable[Iterable[str]], *headings: str) -> str:
    """Return a table in Markdown; numbers to the right."""
    aligned = ("left", *("right",) * (len(headings) - 1))
    return tabulate(rows, headings, tablefmt="github", disable_numparse=True, colalign=aligned)


#: What Airflow's own home page asks for: its users come to ours by way of it.
HOME = (
    "/ui/config",
    "/ui/auth/menus",
    "/api/v2/plugins",
    "/api/v2/importErrors",
    "/ui/dashboard/dag_stats",
    "/ui/dags?limit=50",
    "/api/v2/pools",
    "/api/v2/dags/~/dagRuns?limit=50",
)


def use(url: str, headers: dict[str, str]) -> None:
    """Use an API server as its first users do.

    What was made while it started waits for Python's garbage collector, which goes through all of it, for half a
    second, once a few more things are made. That is to be over before we are measured, who might be the ones.
    """
    for path in HOME * 200:
        requests.get(f"{url}{path}", headers=headers, timeout=60).raise_for_status()


@contextmanager
def emulator(*options: str) -> Iterator[Served]:
    """Run an emulator."""
    command = [sys.executable, "-m", "airflow_ee_provider.emulator", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            yield Served(re.findall(r"http://[\d.:]+", said)[0])
        finally:
            process.terminate()
