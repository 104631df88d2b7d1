"""Long loops beside others' requests: Python runs one thread at a time, and changes it only every five milliseconds.

A request to Airflow's API server changes threads a dozen times until it is answered. Beside a thread that computes, it
waits up to five milliseconds at each of them; beside one that rests every three, rarely longer than that in all.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

#: How long a thread computes at a time, and how long it then rests, in seconds.
WORK, REST = 0.003, 0.002


class _Hurry(threading.local):
    """When each thread rests next; never, unless the process is a server."""

    rests_at = float("-inf")


_hurry, _serves = _Hurry(), threading.Event()


def serve() -> None:
    """Let loops rest from now on: this process answers others' requests. A command's loops never rest."""
    _serves.set()


def unhurried(things: Iterable[T]) -> Iterator[T]:
    """Yield the things; from time to time, rest before the next one."""
    for thing in things:
        rest()
        yield thing


def rest() -> None:
    """Rest, if this thread has computed for long enough."""
    if _serves.is_set() and time.perf_counter() > _hurry.rests_at:
        time.sleep(REST)
        _hurry.rests_at = time.perf_counter() + WORK
