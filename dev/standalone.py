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
from typing import TYPE_CHECKING, Any, ClassVar

from dev.airflow_api import PATIENCE, AirflowApi, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

#: The name of the API server for the tasks.
TASKS_API = "api-server-for-tasks"


class StandaloneAirflow(AirflowApi):
    """Airflow's parts on SQLite, from the running interpreter's environment; a context manager.

    All parts listen on this machine only, and no log server is started: every user who can reach them is an admin. For
    Airflow 3; the system tests have the differences of Airflow 2.

    :param home: its AIRFLOW_HOME, with all files that it writes.
    :param dags_folder: its DAGs.
    :param environment: more environment variables, for example connections.
    """

    #: The API's path with the health of Airflow's parts.
    health_path = "/api/v2/monitor/health"
    healthy_parts: ClassVar[tuple[str, ...]] = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    #: Each part's command line. `airflow standalone` would open its log servers to the network.
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "api-server": ("api-server", "--host", "127.0.0.1", "--workers", "1"),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "dag-processor": ("dag-processor",),
        "triggerer": ("triggerer", "--skip-serve-logs"),
        # Tasks have an API server of their own: on SQLite, a server for both tasks and users can lock itself out, if it
        # writes on its event loop while a task's transaction waits for that loop.
        TASKS_API: (
            "api-server",
            "--apps",
            "execution",
            "--host",
            "127.0.0.1",
            "--port",
            "{tasks_port}",
            "--workers",
            "1",
        ),
    }

    def __init__(self, home: Path, dags_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self.port, self._tasks_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # The settings of the user's own Airflow do not apply.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.environment = {**inherited, **self.settings(dags_folder.resolve()), **(environment or {})}
        self._airflow = Path(sys.executable).parent / "airflow"
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def settings(self, dags_folder: Path) -> dict[str, str]:
        """Return the environment variables that configure it."""
        return {
            "AIRFLOW_HOME": str(self.home),
            # Airflow's parts find each other through PATH.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._tasks_port}/execution/",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            # A small machine under load is slow, and SQLite is locked now and then: wait rather than fail.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            # A callback that arrives while its file is parsed waits for the next parse: 30 s by default.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__OPENLINEAGE__DISABLED": "True",
        }

    @cached_property
    def authorization(self) -> str:
        """The ``Authorization`` header for its REST API."""
        import requests

        return f"Bearer {requests.get(f'{self.url}/auth/token', timeout=30).json()['access_token']}"

    def __enter__(self) -> StandaloneAirflow:
        """Start Airflow, and wait until all of its parts are healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self.make_database()
            self.prepare()
            for part in self.parts:
                self.start(part)
            wait_until(self._healthy, what="Airflow to become healthy")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every process that it started, and their children."""
        import psutil

        for send in (psutil.Process.terminate, psutil.Process.kill):
            everything = self.descendants()
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    send(process)
            psutil.wait_procs(everything, timeout=10)

    def make_database(self) -> None:
        """Make an empty database."""
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")  # Stored in the file: allows readers beside a writer.

    def prepare(self) -> None:
        """Make the database's tables."""
        self.run_command("db", "migrate")

    def run_command(self, *arguments: str) -> None:
        """Run an Airflow command to its end; its output goes to ``{command}.log``."""
        if self._run(arguments[0], arguments).wait(timeout=PATIENCE):
            raise RuntimeError(f"airflow {' '.join(arguments[:2])} has failed; see {self.home}/{arguments[0]}.log")

    def start(self, part: str) -> None:
        """Start a part, such as ``triggerer-2``, or all parts of a command, such as ``triggerer``."""
        for name in self._named(part):
            self._run(name, self.parts[name])

    def _run(self, name: str, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Run ``airflow {arguments}`` in a process group of its own; its output goes to ``{name}.log``."""
        arguments = tuple(argument.format(tasks_port=self._tasks_port) for argument in arguments)
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self._airflow), *arguments],
                env=self.environment_of(name),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append((name, process))
        return process

    def environment_of(self, _part: str) -> dict[str, str]:
        """Return the environment variables of a part, or of a command."""
        return self.environment

    def _named(self, part: str) -> list[str]:
        return [part] if part in self.parts else [name for name, (run, *_) in self.parts.items() if part == run]

    def kill(self, part: str, sent: signal.Signals = signal.SIGTERM) -> None:
        """End a part, or all parts of a command, and wait until they have ended; their tasks continue."""
        import psutil

        def gone(process: psutil.Process) -> bool:
            return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)

        for process in self.processes_of(part):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
                wait_until(partial(gone, process), timeout=60, what=f"the {part} to end")
        for _, started in self._started:
            started.poll()  # Reap the processes that have ended.

    def processes_of(self, part: str, *, with_tasks: bool = False) -> list[Any]:
        """Return psutil's processes of a part, or of all parts of a command.

        :param with_tasks: also return their processes that run tasks or parse files: all that a lost machine would end.
        """
        import psutil

        names = self._named(part)
        main = {process.pid for name, process in self._started if name in names}
        commands = {self.parts[name][0] for name in names}

        def is_own(process: psutil.Process) -> bool:
            with suppress(psutil.NoSuchProcess):
                return process.pid in main or bool(commands & set(process.cmdline()[1:3]))
            return False

        return [process for process in _of_sessions(main) if with_tasks or is_own(process)]

    def descendants(self) -> list[Any]:
        """Return psutil's processes of all that it started, and of their children.

        They are found by their session, since the children of a killed part have lost their parent; and by the
        AIRFLOW_HOME in their environment, since a killed task leaves a process that cancels in a session of its own.
        """
        import psutil

        leaders = {process.pid for _, process in self._started}
        return [
            process
            for process in psutil.process_iter()
            if _session(process.pid) in leaders or self._is_at_home(process)
        ]

    def _is_at_home(self, process: Any) -> bool:
        import psutil

        with suppress(psutil.Error):  # The process is another user's, or has ended.
            return bool(process.environ().get("AIRFLOW_HOME") == str(self.home))
        return False

    def _healthy(self) -> bool:
        import requests

        if ended := [name for name, process in self._started if name in self.parts and process.poll() is not None]:
            raise RuntimeError(f"Airflow's {', '.join(ended)} has ended; see the logs in {self.home}")
        if TASKS_API in self.parts and not listens(self._tasks_port):
            return False
        try:
            health = requests.get(f"{self.url}{self.health_path}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        return all(health.get(part, {}).get("status") == "healthy" for part in self.healthy_parts)


def _of_sessions(leaders: set[int]) -> list[Any]:
    import psutil

    return [process for process in psutil.process_iter() if _session(process.pid) in leaders]


def _session(process_id: int) -> int | None:
    with suppress(OSError):  # The process has ended.
        return os.getsid(process_id)
    return None


def listens(port: int) -> bool:
    """Whether a server listens at a port of this machine."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
