"""Airflow as it runs in production: PostgreSQL, Celery over Redis, two workers and two triggerers."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil
from airflow_2 import StandaloneAirflow2
from servers import Postgres, Redis

from dev.standalone import StandaloneAirflow

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping

#: How many tasks a worker runs at once: Airflow's default.
CONCURRENCY = 16


#: Seconds after which the broker delivers an unacknowledged message again: a day by default.
VISIBILITY_TIMEOUT = 60


#: Parts whose machines' clocks are wrong, and by how many seconds; and the library that shifts a process's clock.
WRONG_CLOCKS = {"worker-2": -3600, "triggerer-2": 3600}
WRONG_CLOCK = Path(__file__).parents[1] / "support" / "wrong_clock.c"


def workers_and_triggerers(first: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the parts of an Airflow with two workers, and two triggerers in place of one."""
    return {
        **{name: command for name, command in first.items() if name != "triggerer"},
        **{f"triggerer-{number}": first["triggerer"] for number in (1, 2)},
        **dict(map(worker, (1, 2))),
    }


def worker(number: int) -> tuple[str, tuple[str, ...]]:
    """Return a Celery worker's name, and its command."""
    name = f"worker-{number}"
    how = ("--concurrency", str(CONCURRENCY), "--skip-serve-logs", "--without-gossip")
    return name, ("celery", "worker", *how, "--celery-hostname", f"{name}@%h", "--pid", f"{name}.pid")


class ProductionAirflow(StandaloneAirflow):
    """An Airflow whose database, broker, workers and triggerers can be stopped and started one by one."""

    parts: ClassVar[dict[str, tuple[str, ...]]] = workers_and_triggerers(StandaloneAirflow.parts)
    clocks: ClassVar[dict[str, int]] = {}

    def __init__(self, home: Path, dags_folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.database, self.broker = Postgres(), Redis()
        self._servers = ExitStack()
        super().__init__(home, dags_folder, environment)
        self.parts = dict(type(self).parts)  # type: ignore[misc]
        self.clocks = dict(type(self).clocks)  # type: ignore[misc]
        #: The workers that take tasks now; others have been replaced.
        self.workers = [name for name in self.parts if name.startswith("worker-")]

    def settings(self, dags_folder: Path) -> dict[str, str]:
        return super().settings(dags_folder) | {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database.url,
            "AIRFLOW__CELERY__BROKER_URL": self.broker.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.database.url}",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
        }

    def environment_of(self, part: str) -> dict[str, str]:
        environment = super().environment_of(part)
        if part not in self.clocks:
            return environment
        return environment | {"LD_PRELOAD": str(self._library), "WRONG_CLOCK": str(self.clocks[part])}

    @cached_property
    def _library(self) -> Path:
        library = self.home / "wrong_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(WRONG_CLOCK), "-ldl"], check=True)
        return library

    def make_database(self) -> None:
        self._servers.enter_context(self.database)
        self._servers.enter_context(self.broker)

    def replace_workers(self, *sent: signal.Signals, with_tasks: bool = False) -> None:
        """Signal all workers to end, without waiting for that, and start as many others.

        :param sent: the signals that their main processes get, one second apart.
        :param with_tasks: send the signals to the tasks, too, as if the machine fails.
        """
        old, count = self.workers, len(self.parts)
        self.workers = []
        for number, name in enumerate(old, start=count):
            main = {process.pid for started, process in self._started if started == name}
            for sending in sent:
                for process in self.processes_of(name, with_tasks=with_tasks):
                    if with_tasks or process.pid in main:
                        with suppress(psutil.NoSuchProcess):
                            process.send_signal(sending)
                time.sleep(1)
            new, command = worker(number)
            self.parts[new] = command
            if name in self.clocks:  # The same machine.
                self.clocks[new] = self.clocks[name]
            self.workers.append(new)
            self.start(new)

    def start_what_has_ended(self) -> None:
        """Restart parts that have ended unexpectedly, as systemd or Kubernetes does."""
        latest = {name: process for name, process in self._started if name in self.parts}
        replaced = {name for name in self.parts if name.startswith("worker-")} - set(self.workers)
        for name, process in latest.items():
            if name not in replaced and process.poll() is not None:
                self.start(name)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._servers.close()


class WrongClocks(ProductionAirflow):
    """The same, with two machines' clocks wrong by an hour."""

    clocks: ClassVar[dict[str, int]] = WRONG_CLOCKS


class ProductionAirflow2(ProductionAirflow, StandaloneAirflow2):
    """The same with Airflow 2."""

    parts: ClassVar[dict[str, tuple[str, ...]]] = workers_and_triggerers(StandaloneAirflow2.parts)
