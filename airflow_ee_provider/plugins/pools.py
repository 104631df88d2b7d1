"""The threads that answer the page's requests: each kind of work has its own, so that no slow kind holds up another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

if TYPE_CHECKING:
    from collections.abc import Callable


class Pool:
    """Some threads for one kind of work.

    :param name: of its threads.
    :param threads: how many pieces of work are done at the same time.
    :param waiting: how many more may wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"earth-engine-{name}")
        self._most, self._open = threads + waiting, 0

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread; on the event loop's thread only.

        :raises HTTPException: 503 if too many wait already; nothing was done.
        """
        if self._open >= self._most:
            raise HTTPException(503, "Too many requests are being answered; nothing was done. Try again in a minute.")
        # In the caller's context, as Airflow's own endpoints are called: an auth manager may keep its app there.
        context = copy_context()
        work = asyncio.get_running_loop().run_in_executor(self._threads, context.run, function, *args)
        self._open += 1
        work.add_done_callback(self._done)
        return await work

    def _done(self, _: Any) -> None:
        self._open -= 1
