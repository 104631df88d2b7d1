"""Pauses in long loops, so that other threads can answer requests.

Python runs one thread at a time, and lets it compute for five milliseconds before it switches to another. A request to
Airflow's API server needs a dozen switches. If another thread computes, the request waits up to five milliseconds for
each of them. If that thread pauses every three milliseconds, the request rarely waits more than five milliseconds in
all.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

#: How long a thread computes at a time, and how long it then pauses, in seconds.
WORK, REST = 0.003, 0.002


class _Hurry(threading.local):
    """When each thread pauses next. Only the threads of a server pause."""

    rests_at = float("-inf")


_hurry, _serves = _Hurry(), threading.Event()


def serve() -> None:
    """Let loops pause from now on, because this process is a server. The loops of a command never pause."""
    _serves.set()


def unhurried(things: Iterable[T]) -> Iterator[T]:
    """Yield the things, and pause between them from time to time."""
    for thing in things:
        rest()
        yield thing


def rest() -> None:
    """Pause, if this thread has computed for `WORK` seconds."""
    if _serves.is_set() and time.perf_counter() > _hurry.rests_at:
        time.sleep(REST)
        _hurry.rests_at = time.perf_counter() + WORK
