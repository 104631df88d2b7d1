"""An answer within so many seconds, or none."""

from __future__ import annotations

import _thread
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def run_with_timeout(look_up: Callable[[], T], seconds: float) -> T:
    """Return what a look-up returns, in a thread of its own: an answer that never comes must not hold the process.

    It can be called in a signal handler: nothing here waits for a lock that the interrupted code may hold.

    :raises TimeoutError: if there is no answer in time.
    """
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            answers.put((look_up(), None))
        except BaseException as error:  # noqa: BLE001 (it is raised where it is wanted)
            answers.put((None, error))

    _thread.start_new_thread(work, ())
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"There was no answer in {seconds:g} s.") from None
    if error is not None:
        raise error
    return cast("T", answer)
