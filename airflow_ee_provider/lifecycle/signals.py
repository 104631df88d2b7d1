"""Signal handlers that a user's function changes, put back once it has returned."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The signals with which a task is ended: Airflow sends the first, a terminal the second.
ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def handlers_put_back() -> Iterator[None]:
    """Put Airflow's handlers back after a function that has changed them.

    Without Airflow's handler of SIGTERM, nobody calls ``on_kill``. A function may set one of its own, to stop
    gracefully; asyncio's ``remove_signal_handler`` leaves the system's default.
    """
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread change them.
        yield
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in ENDING}
    wake_up = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wake_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        with suppress(ValueError, OSError):  # It was closed meanwhile.
            signal.set_wakeup_fd(wake_up)
