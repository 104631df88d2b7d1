"""PostgreSQL and Redis from Debian's packages, in folders of their own, on loopback, for Airflow as in production."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dev.airflow_api import wait_until
from dev.standalone import free_port, listens

if TYPE_CHECKING:
    from types import TracebackType

#: Debian keeps PostgreSQL's programs apart, by version.
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql"))


def are_installed() -> bool:
    """Whether this machine has both."""
    return (POSTGRES / "postgres").exists() and shutil.which("redis-server") is not None


class Server:
    """A server in a folder of its own, at a free port; a context manager. It can be stopped and started again."""

    #: PostgreSQL refuses to run as root.
    user: str | None = None

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, user=self.user, start_new_session=True
            )
        wait_until(lambda: listens(self.port), timeout=60, what=f"{self.command()[0]} to listen")

    def stop(self, sent: signal.Signals = signal.SIGINT) -> None:
        """Stop the server; by default without waiting for its clients."""
        if self._process:
            self._process.send_signal(sent)
            self._process.wait(timeout=60)
            self._process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    """An empty database ``airflow`` of the user ``airflow``, as whom any local process can connect."""

    user = "postgres" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        address = ("-c", "listen_addresses=127.0.0.1", "-p", str(self.port), "-k", str(self.folder))
        return [str(POSTGRES / "postgres"), "-D", str(self.folder / "data"), "-F", "-N", "300", *address]

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self._run("initdb", "-D", str(self.folder / "data"), "-U", "airflow", "-A", "trust", "-E", "UTF8")
            super().start()
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", "airflow")
        else:
            super().start()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(POSTGRES / program), *arguments], cwd=self.folder, user=self.user, check=True, capture_output=True
        )
        return done.stdout.decode()

    def connections(self) -> int:
        """Return how many clients are connected."""
        question = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", "-d", "airflow")
        return int(self._run("psql", *where, "-Atc", question)) - 1

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"


class Redis(Server):
    """A broker that keeps its messages, also when it is killed."""

    def command(self) -> list[str]:
        address = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return ["redis-server", *address, "--appendonly", "yes", "--save", ""]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
