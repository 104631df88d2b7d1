"""The threads for the page's requests. Each kind of work has its own, so that a slow kind does not block another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool:
    """Threads for one kind of work.

    :param name: The name of the threads.
    :param threads: The number of threads.
    :param waiting: How many calls may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"earth-engine-{name}")
        self._most, self._open = threads + waiting, 0

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in one of the threads. Must be called on the event loop.

        :raises HTTPException: With status 503, if too many calls wait already. The function was not called.
        """
        if self._open >= self._most:
            raise HTTPException(503, "The server is busy, and nothing was done. Try again in a minute.")
        # In the caller's context, as for Airflow's own endpoints, since an auth manager may store its app there.
        context = copy_context()
        work = asyncio.get_running_loop().run_in_executor(self._threads, context.run, function, *args)
        self._open += 1
        work.add_done_callback(self._done)
        return await work

    def _done(self, _: Any) -> None:
        self._open -= 1
