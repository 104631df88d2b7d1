"""A real Airflow 3 in a folder of its own, driven through its REST API: for the demo and the system tests."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow_ee_provider.airflow_api import AirflowApi, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

T = TypeVar("T")


class StandaloneAirflow(AirflowApi):
    """Airflow's parts on SQLite, from the running interpreter's environment; a context manager.

    Whatever it starts listens on this machine only, and no log server is among it: everybody who reaches it is an
    admin. For Airflow 3; the system tests know what differs with Airflow 2.

    :param home: its AIRFLOW_HOME; everything that it writes goes there.
    :param dags_folder: its DAGs.
    :param environment: more variables, for example connections.
    """

    #: Where the API says how Airflow's parts are.
    health_path = "/api/v2/monitor/health"
    healthy_parts: ClassVar[tuple[str, ...]] = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    #: What it starts, with each part's arguments; `airflow standalone` would open its log servers to the network.
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "api-server": ("--host", "127.0.0.1", "--workers", "1"),
        "scheduler": ("--skip-serve-logs",),
        "dag-processor": (),
        "triggerer": ("--skip-serve-logs",),
    }

    def __init__(self, home: Path, dags_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self.port, self._execution_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # The user's own Airflow has nothing to say here.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.environment = {**inherited, **self.settings(dags_folder.resolve()), **(environment or {})}
        self._airflow = Path(sys.executable).parent / "airflow"
        self.processes: list[subprocess.Popen[bytes]] = []

    def settings(self, dags_folder: Path) -> dict[str, str]:
        """Return the environment's variables that configure it."""
        return {
            "AIRFLOW_HOME": str(self.home),
            # Airflow's parts find each other through PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._execution_port}/execution/",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # A small machine under load is slow, and SQLite is locked now and then: wait rather than fail.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            # A callback that comes while its file is being parsed waits for the next time, 30 s by default.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        }

    @cached_property
    def authorization(self) -> str:
        """The header with which its REST API is called."""
        import requests

        return f"Bearer {requests.get(f'{self.url}/auth/token', timeout=30).json()['access_token']}"

    def __enter__(self) -> StandaloneAirflow:
        """Start it, and wait until all of its parts are healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")  # Kept in the file: readers and a writer side by side.
        try:
            self.prepare()
            for part in self.parts:
                self.start(part)
            self.start_more()
            wait_until(self._healthy, timeout=180, what="Airflow to become healthy")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every process that it started, and those that they started."""
        import psutil

        for send in (psutil.Process.terminate, psutil.Process.kill):
            everything = self.descendants()
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    send(process)
            psutil.wait_procs(everything, timeout=10)

    def prepare(self) -> None:
        """Make the database."""
        self.run_command("db", "migrate")

    def run_command(self, *arguments: str) -> None:
        """Run an Airflow command to its end; its output goes to ``{command}.log``."""
        self.start(*arguments)
        if self.processes.pop().wait(timeout=180):
            raise RuntimeError(f"airflow {' '.join(arguments)} has failed; see {self.home}/{arguments[0]}.log")

    def start_more(self) -> None:
        """Start what is not one of the parts.

        Tasks have an API server of their own: on SQLite, one that serves both them and the users can lock itself out,
        writing on its event loop while it is that loop which a task's transaction waits for.
        """
        port = str(self._execution_port)
        self.start("api-server", "--host", "127.0.0.1", "--apps", "execution", "--workers", "1", "--port", port)
        wait_until(lambda: _listens(self._execution_port), timeout=60, what="the tasks' API server")

    def start(self, part: str, *arguments: str) -> None:
        """Start ``airflow {part}`` in a process group of its own; its output goes to ``{part}.log``."""
        command = [str(self._airflow), part, *(arguments or self.parts.get(part, ()))]
        with (self.home / f"{part}.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)

    def kill(self, part: str, sent: signal.Signals = signal.SIGTERM) -> None:
        """End a part of it, for example ``triggerer``, and wait until it has gone."""
        import psutil

        def gone(process: psutil.Process) -> bool:
            return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)

        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                if part in process.cmdline()[1:3]:
                    process.send_signal(sent)
                    wait_until(partial(gone, process), timeout=60, what=f"the {part} to end")
        for started in self.processes:
            started.poll()  # Those that have ended are waited for.

    def descendants(self) -> list[Any]:
        """Return the processes that it started, and those that they started, as psutil has them.

        They are known by their session: a part that was killed leaves children to nobody.
        """
        import psutil

        mine = {process.pid for process in self.processes}
        return [process for process in psutil.process_iter() if _session(process.pid) in mine]

    def _healthy(self) -> bool:
        import requests

        if ended := [
            part for part, process in zip(self.parts, self.processes, strict=False) if process.poll() is not None
        ]:
            raise RuntimeError(f"Airflow's {', '.join(ended)} has ended; see the logs in {self.home}")
        try:
            health = requests.get(f"{self.url}{self.health_path}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        return all(health.get(part, {}).get("status") == "healthy" for part in self.healthy_parts)


def _session(process_id: int) -> int | None:
    with suppress(OSError):  # It has ended meanwhile.
        return os.getsid(process_id)
    return None


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
