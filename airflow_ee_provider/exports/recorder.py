"""Record the operations that a function starts one by one, while it already starts the next.

A record is three requests to Airflow, which take as long as a start at Earth Engine. So a thread writes several in one
record, and the function does not wait. If the process is killed meanwhile, the next try sends the same starts again and
gets the same operations.
"""

from __future__ import annotations

import _thread
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.process import is_a_dag_test, threads_may_ask_airflow

if TYPE_CHECKING:
    from collections.abc import Callable

#: How long a thread waits for more operations before it writes a record, in seconds.
COLLECTED_FOR = 0.2

#: The share of the time that records may take in a ``dag.test()``. There, only the task's own thread may call Airflow.
LARGEST_SHARE = 0.04


class Recorder:
    """Records operations in the order in which they are added.

    :param ti: The task instance.
    :param write: Stores operations in Airflow, each with its `Start.key`.
    """

    def __init__(self, ti: Any, write: Callable[[dict[str, str]], None]) -> None:
        self._ti, self._write = ti, write
        self._lock = threading.Lock()
        self._unwritten: dict[str, str] = {}
        #: The writing thread puts an item into this queue when it ends; None if no thread writes.
        self._end: SimpleQueue[bool] | None = None
        self._is_first = True
        #: When the next record is due in a ``dag.test()``, in seconds of the monotonic clock.
        self._due = 0.0

    def add(self, operations: dict[str, str]) -> None:
        """Record operations soon: the first ones before this returns, the others within a second, if Airflow answers.

        :raises Exception: If operations were not recorded. `write_now` tries again.
        """
        with self._lock:
            self._unwritten.update(operations)
        if not self._is_first and threads_may_ask_airflow() and not is_a_dag_test(self._ti):
            self._write_beside()
        elif time.monotonic() >= self._due:
            self.write_now()

    def write_now(self, operations: dict[str, str] | None = None) -> None:
        """Record operations, and all those that are not recorded yet, before this returns.

        Before Airflow 3.2, a function's thread may not call Airflow, and leaves them to the task's own thread.

        :raises Exception: If they were not recorded.
        """
        with self._lock:
            self._unwritten.update(operations or {})
        if threading.current_thread() is not threading.main_thread() and not threads_may_ask_airflow():
            return
        while (end := self._end) is not None:
            end.put(end.get())  # Another thread may wait, too.
        began = time.monotonic()
        self._write_all()
        if is_a_dag_test(self._ti):
            now = time.monotonic()
            self._due = now + (now - began) / LARGEST_SHARE

    def _write_beside(self) -> None:
        with self._lock:
            if self._end is not None:
                return
            end = self._end = SimpleQueue()
        try:
            _thread.start_new_thread(self._write_in_a_thread, (end,))
        except RuntimeError:  # The process can start no more threads.
            self._end = None
            end.put(True)
            self.write_now()

    def _write_in_a_thread(self, end: SimpleQueue[bool]) -> None:
        try:
            while self._has_more():
                time.sleep(COLLECTED_FOR)
                self._write_all()
        except BaseException:  # noqa: BLE001 (the next call tries again in the task's own thread, and raises)
            with self._lock:
                self._end, self._is_first = None, True
        end.put(True)

    def _has_more(self) -> bool:
        """Whether the thread has more to write. If not, it ends, and the next operation starts another one."""
        with self._lock:
            if not self._unwritten:
                self._end = None
            return bool(self._unwritten)

    def _write_all(self) -> None:
        with self._lock:
            operations, self._unwritten = self._unwritten, {}
        if not operations:
            return
        try:
            self._write(operations)
        except BaseException:  # Also for a time-out.
            with self._lock:
                self._unwritten = {**operations, **self._unwritten}
            raise
        self._is_first = False
