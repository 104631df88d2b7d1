"""Start operations for a task: each exactly once, recorded soon after its start, and none after a kill."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.model.metrics import measure
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import (
    Start,
    start_once,
)
from airflow_ee_provider.earth_engine.transport.drivers import run
from airflow_ee_provider.exports.batch import Batch, log_started
from airflow_ee_provider.exports.recorder import Recorder
from airflow_ee_provider.exports.requested import StartMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.transports import SyncTransport
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


#: Seconds until a function's start is tried again, if the project's queue is full.
FUNCTION_RETRY_DELAY = 30.0


class Starter(StartMaker):
    """Starts operations in one process of a task. Threads may share it; `stop` waits for none of them.

    :param hook: Sends the starts for which no other transport is given.
    :param context: The task's context. The tries of a task instance derive the same identity from it.
    :param record: Called with operations by name, each with its `Start.key`.
    :param queue_timeout: Seconds for which a function's start waits for room in the queue; None for no limit.
    :param making: The parameters of `StartMaker`.
    """

    def __init__(
        self,
        hook: EarthEngineHook,
        context: Context,
        record: Callable[[dict[str, str]], None],
        *,
        queue_timeout: float | None = None,
        **making: Any,
    ) -> None:
        super().__init__(context, **making)
        self._hook, self._log = hook, hook.log
        self._recorder, self._dag_id = Recorder(context["ti"], record), context["ti"].dag_id
        self._queue_timeout = queue_timeout
        self._in_flight: dict[str, Start] = {}
        self._interrupted: set[str] = set()
        self._refused: dict[tuple[str, ...], tuple[Start, EarthEngineError]] = {}
        #: The function's registered starts, by `Start.key`. They are sent after it has returned, or when it needs them.
        self.registered: dict[str, Start] = {}
        #: Whether no more starts are sent.
        self.stopped = False
        self._cancels_late_starts = False

    def register(self, start: Start) -> None:
        """Register a start. It is sent after the function has returned, or when the function needs it.

        :raises TransientError: If the task was stopped.
        """
        self._check_not_stopped(start)
        self._refused.pop(start.asked, None)  # The function has repeated a refused request.
        self.registered[start.key] = start

    def name_of(self, start: Start) -> str:
        """Return the operation that this process has started or found for a start; empty if there is none yet."""
        name = self.known.get(start.key, "")
        return name if name in self.started else ""

    def refusal_of(self, start: Start) -> EarthEngineError | None:
        """Return the error with which a start was refused; None if it was not."""
        return self._refused.get(start.asked, (start, None))[1]

    def start(self, start: Start, transport: SyncTransport | None = None) -> Operation:
        """Start an operation, or find it if it is started already, and record it.

        :param transport: Sends the requests; by default the hook's.
        :raises EarthEngineError: If the start failed, or the task was stopped.
        """
        self._check_not_stopped(start)
        if name := self.known.get(start.key):
            self.started[name] = start
            return Operation.unread(OperationName.parse(name))
        self._in_flight[start.key] = start
        self._interrupted.discard(start.key)
        try:
            operation = self._send(start, transport)
        except EarthEngineError as error:
            self._note_refused(start, error)
            self._in_flight.pop(start.key, None)
            raise
        except BaseException:  # A timeout or a signal. The start stays in flight, so that a kill can cancel it.
            self._interrupted.add(start.key)
            raise
        name = str(operation.name)
        is_new = name not in self.started
        self._note(start, name)
        self._refused.pop(start.asked, None)
        if is_new and not self._cancels_late_starts:
            self._count_started(1)
            self._recorder.add({name: start.key})
        if self.stopped:  # The answer arrived after the kill.
            if self._cancels_late_starts:
                self._hook.cancel_operations([name])
            raise TransientError("The task was killed while it started this operation.", subject=name)
        if is_new:
            log_started(self._log, start, name)
        return operation

    def _check_not_stopped(self, start: Start) -> None:
        if self.stopped:
            raise TransientError("Not started, since the task is ending.", subject=start.describe())

    def _note_refused(self, start: Start, error: EarthEngineError) -> None:
        """Remember a refused start, since the function may catch the error and ignore it, or repeat the request."""
        # If the function repeats the request, this start is sent again, since Earth Engine may have carried it out.
        self._failed_repeats[start.asked].append(start.repeat)
        self.registered.pop(start.key, None)
        if not self.stopped:
            self._refused[start.asked] = (start, error)

    def _send(self, start: Start, transport: SyncTransport | None) -> Operation:
        """Send a function's start. If the queue is full, wait in the function's thread and try again."""
        since = time.monotonic()
        while True:
            try:
                if transport is None:
                    return self._hook.start_once(start, lambda: self.stopped)
                return run(start_once(start.project, start, lambda: self.stopped), transport, self._log)
            except QueueFullError as error:
                waited = time.monotonic() - since
                if self.stopped or (self._queue_timeout is not None and waited >= self._queue_timeout):
                    raise
                self._log.warning("%s Trying again in %g s.", error, FUNCTION_RETRY_DELAY)
                self._in_flight.pop(start.key, None)
                time.sleep(FUNCTION_RETRY_DELAY)
                self._in_flight[start.key] = start

    def _note(self, start: Start, name: str) -> None:
        """Remember a started operation. It leaves `in_flight` only after that, so that a kill never misses it."""
        self.started[name] = start
        self.known[start.key] = name
        self._in_flight.pop(start.key, None)

    def find(self, starts: Sequence[Start]) -> int:
        """Continue with the operations of these starts that are known; return how many there are."""
        found = {self.known[start.key]: start for start in starts if start.key in self.known}
        self.started.update(found)
        return len(found)

    def start_all(self, starts: Sequence[Start], up_to: int | None = None) -> bool:
        """Start operations in parallel, or find those that are started already, and record them; see `known`.

        :param up_to: The most operations to start; None for all.
        :return: Whether the project's queue has no room for the others.
        :raises EarthEngineError: If a start failed; raised after all other starts in flight are answered.
        """
        found = self.find(starts)
        todo = [start.with_tries(self._tries) for start in starts if start.key not in self.known]
        batch = Batch(len(starts), found, self._record, self._log)
        try:
            self._hook.start_all(todo[:up_to], partial(self._is_not_needed, batch), partial(self._take, batch))
        except BaseException:  # Also for a timeout or a kill: started operations must be in the record.
            with suppress(Exception):
                batch.record()
            raise
        if batch.late:
            self._hook.cancel_operations(batch.late)
        batch.record()
        if self.stopped:
            raise TransientError("The task was killed; remaining exports were not started.")
        batch.log_end()
        if batch.failure:
            self._note_refused(*batch.failure)
            raise batch.failure[1]
        return batch.is_full

    def _is_not_needed(self, batch: Batch, start: Start) -> bool:
        """Whether a start must not be sent. Called in the thread that is about to send it."""
        # First note the start as in flight: so either a kill finds the start, or the check below finds the kill.
        is_first = start.key not in self._in_flight
        self._in_flight[start.key] = start
        if not (self.stopped or batch.is_over):
            return False
        if is_first:  # Otherwise Earth Engine may have carried it out.
            self._in_flight.pop(start.key, None)
        return True

    def _take(self, batch: Batch, result: tuple[Start, Operation | EarthEngineError]) -> None:
        """Note a started operation or a start's error. Called in the task's own thread."""
        start, found = result
        if isinstance(found, QueueFullError):
            batch.is_full = True
            self._in_flight.pop(start.key, None)
        elif isinstance(found, EarthEngineError):
            if not (self.stopped or batch.is_over):
                batch.failure = (start, found)
                self._in_flight.pop(start.key, None)
        else:
            self._note(start, str(found.name))
            if self._cancels_late_starts:
                batch.late.append(str(found.name))
            else:
                batch.add(start, str(found.name))

    def raise_for_refused(self) -> None:
        """Raise for starts that were refused and never succeeded, since the function may have ignored the errors.

        :raises EarthEngineError: If there are any; a `TransientError` if all of their errors are transient.
        """
        if not self._refused:
            return
        errors = [error for _, error in self._refused.values()]
        lines = [f"{start.describe()}: {error}" for start, error in self._refused.values()]
        kind = EarthEngineError if any(error.permanent for error in errors) else TransientError
        raise kind(
            "Earth Engine refused to start:\n  " + "\n  ".join(lines),
            remedy="If the function handles these errors itself, set ignore_refused_starts=True.",
        )

    @property
    def in_flight(self) -> list[Start]:
        """The starts that Earth Engine may have carried out, but has not answered yet."""
        return list(self._in_flight.values())

    @property
    def awaited(self) -> list[Start]:
        """The starts in flight whose thread still waits for the answer."""
        return [start for start in self.in_flight if start.key not in self._interrupted]

    def flush(self, adopted: Sequence[str] = ()) -> None:
        """Record all started operations that are not recorded yet. Called in the main thread.

        :param adopted: Operations to record that this task has not started.
        """
        self._recorder.write_now(dict.fromkeys(adopted, ""))

    def record_what_it_can(self) -> None:
        """Record the operations of a function that fails: the next try, callbacks and the collector need them."""
        with suppress(Exception):
            self.flush()

    def _record(self, started: dict[str, str]) -> None:
        self._count_started(len(started))
        self._recorder.write_now(started)

    def _count_started(self, count: int) -> None:
        measure("operations_started", count, dag_id=self._dag_id)

    def stop(self) -> None:
        """Start no more operations. Called in a signal handler, so it waits for no lock."""
        self.stopped = True

    def cancel_late_starts(self) -> None:
        """Start no more, and cancel each operation whose start Earth Engine answers from now on. Waits for no lock."""
        self.stopped = self._cancels_late_starts = True
