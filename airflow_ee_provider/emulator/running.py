"""Runs the emulator in a thread of this process."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_ee_provider.emulator.server import make_app
from airflow_ee_provider.emulator.service import Service

if TYPE_CHECKING:
    from types import TracebackType


class Emulator:
    """An emulator in its own thread. It is a context manager.

    :param service: The service that it serves; a new one by default.
    :param host: The address to listen at.
    :param port: The port to listen at; 0 for a free one.
    """

    def __init__(self, service: Service | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service or Service()
        self._host, self._port = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="earth-engine-emulator", daemon=True)
        self._runner = web.AppRunner(make_app(self.service), access_log=None, shutdown_timeout=1.0)

    @property
    def url(self) -> str:
        """The emulator's address, for example ``http://127.0.0.1:8085``."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    def airflow_connection(self, project: str = "earth-demo") -> str:
        """Return an Airflow connection to the emulator, as JSON for ``AIRFLOW_CONN_EARTH_ENGINE_DEFAULT``."""
        extra = {"project": project, "is_anonymous": True}
        return json.dumps({"conn_type": "earth_engine", "host": self.url, "extra": extra})

    def __enter__(self) -> Emulator:
        """Start listening."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        self._loop.close()

    async def _start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        # Do not wait for requests that are still running.
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
