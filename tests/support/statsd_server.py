"""A StatsD server on this machine that keeps the metrics it receives."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class StatsdServer:
    """Listens in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def settings(self) -> dict[str, str]:
        """Return the settings that make Airflow send its metrics here, with tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    @property
    def counts(self) -> Counter[str]:
        """The sums of our counters, each with its tags: ``operations_ended,dag_id=…,state=succeeded``."""
        sums: Counter[str] = Counter()
        for line in list(self._lines):
            name, _, value = line.rpartition(":")
            number, kind, *_ = value.split("|")
            if kind == "c" and ".earth_engine." in name:
                sums[name.partition(".earth_engine.")[2]] += int(float(number))
        return sums

    @property
    def names(self) -> set[str]:
        """Our metrics' names, without tags."""
        names = {line.partition(":")[0].partition(",")[0] for line in list(self._lines)}
        return {name.partition("airflow.")[2] for name in names if ".earth_engine." in name}

    def _listen(self) -> None:
        while True:
            try:
                self._lines += self._socket.recv(65536).decode().splitlines()
            except OSError:
                return
