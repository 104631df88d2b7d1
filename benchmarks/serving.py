"""Shared by the benchmarks: an emulator in a process of its own, so that only the client's CPU time is measured."""

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
        """Point ``earth_engine_default`` to the emulator, in this process and its children."""
        extra = {"project": "demo", "is_anonymous": True}
        connection = {"conn_type": "earth_engine", "host": self.url, "extra": extra}
        os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"] = json.dumps(connection)


def table(rows: Iterable[Iterable[str]], *headings: str) -> str:
    """Return a table in Markdown; all columns but the first are right-aligned."""
    aligned = ("left", *("right",) * (len(headings) - 1))
    return tabulate(rows, headings, tablefmt="github", disable_numparse=True, colalign=aligned)


#: The requests of Airflow's home page, which users open before the provider's page.
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
    """Send the requests of an API server's first users.

    During the first requests after the server's start, Python's garbage collector visits all objects that the start has
    created, which takes half a second. This must happen before the measurement.
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
