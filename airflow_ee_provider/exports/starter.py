"""Start operations for a task: exactly once each, recorded before anything else, and none after a kill."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.process import threads_may_ask_airflow
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
from airflow_ee_provider.exports.start_maker import StartMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.transports import SyncTransport
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


#: Seconds after which a function's start is tried again where the project's queue is full.
FUNCTION_RETRY_DELAY = 30.0


class Starter(StartMaker):
    """What one process of a task starts. Threads may share it; `stop` waits for none of them.

    :param hook: sends what a function does not send by its own transport.
    :param context: the task's, which makes the identity that its tries have in common.
    :param record: called with operations by name, each with its `Start.key`, before anything else is done with them.
    :param queue_timeout: seconds for which a function's start waits for room; None for as long as it takes.
    :param making: the parameters of `StartMaker`.
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
        self._write, self._dag_id = record, context["ti"].dag_id
        self._queue_timeout = queue_timeout
        self._in_flight: dict[str, Start] = {}
        self._unrecorded: dict[str, str] = {}
        self._refused: dict[tuple[str, ...], tuple[Start, EarthEngineError]] = {}
        #: What the function has registered, by `Start.key`: it is started once the function has returned, or before.
        self.registered: dict[str, Start] = {}
        #: No start is begun any more.
        self.stopped = False
        self._cancels_late_starts = False

    def register(self, start: Start) -> None:
        """Start it once the function has returned, or needs it.

        :raises TransientError: if nothing more is to be started.
        """
        self._check_not_stopped(start)
        self._refused.pop(start.asked, None)  # It is asked for again.
        self.registered[start.key] = start

    def name_of(self, start: Start) -> str:
        """Return the operation that this process has started, or found; empty if it has not yet."""
        name = self.known.get(start.key, "")
        return name if name in self.started else ""

    def refusal_of(self, start: Start) -> EarthEngineError | None:
        """Return why a start was refused."""
        return self._refused.get(start.asked, (start, None))[1]

    def start(self, start: Start, transport: SyncTransport | None = None) -> Operation:
        """Start it, or find it started, and record it.

        :param transport: sends the requests; by default the hook's own.
        :raises EarthEngineError: if it could not be started, or nothing more is to be started.
        """
        self._check_not_stopped(start)
        if name := self.known.get(start.key):
            self.started[name] = start
            return Operation.unread(OperationName.parse(name))
        self._in_flight[start.key] = start
        try:
            operation = self._send(start, transport)
        except EarthEngineError as error:
            self._note_refused(start, error)
            self._in_flight.pop(start.key, None)
            raise  # What a timeout or a signal interrupts stays in flight: a kill asks Earth Engine about it.
        name = str(operation.name)
        is_new = name not in self.started
        self._note(start, name)
        self._refused.pop(start.asked, None)
        if is_new and not self._cancels_late_starts:
            self._record({name: start.key})
        if self.stopped:  # The answer has come after the kill.
            if self._cancels_late_starts:
                self._hook.cancel_operations([name])
            raise TransientError("The task was killed while this was started: it ends.", subject=name)
        if is_new:
            log_started(self._log, start, name)
        return operation

    def _check_not_stopped(self, start: Start) -> None:
        if self.stopped:
            raise TransientError("Nothing more is started.", subject=start.describe())

    def _note_refused(self, start: Start, error: EarthEngineError) -> None:
        """Remember what was refused: the function may deal with that, or swallow it, or ask for it again."""
        # A function that asks for it again repeats this start: Earth Engine may have acted.
        self._failed_repeats[start.asked].append(start.repeat)
        self.registered.pop(start.key, None)
        if not self.stopped:
            self._refused[start.asked] = (start, error)

    def _send(self, start: Start, transport: SyncTransport | None) -> Operation:
        """Start something for a function, which has to wait in its own thread where there is no room."""
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
                self._log.warning("%s It is tried again in %g s.", error, FUNCTION_RETRY_DELAY)
                self._in_flight.pop(start.key, None)
                time.sleep(FUNCTION_RETRY_DELAY)
                self._in_flight[start.key] = start

    def _note(self, start: Start, name: str) -> None:
        """Remember what was started before it is in flight no more: a kill that comes between finds it twice."""
        self.started[name] = start
        self.known[start.key] = name
        self._in_flight.pop(start.key, None)

    def find(self, starts: Sequence[Start]) -> int:
        """Continue with those that the last try has started; return how many that are."""
        found = {self.known[start.key]: start for start in starts if start.key in self.known}
        self.started.update(found)
        return len(found)

    def start_all(self, starts: Sequence[Start], up_to: int | None = None) -> bool:
        """Start them side by side, or find them started, and record them a few at a time; those started are `known`.

        :param up_to: how many more are started; None for all.
        :return: whether there is no room for the others in the project's queue.
        :raises EarthEngineError: if one could not be started, once nothing more is in flight.
        """
        found = self.find(starts)
        todo = [start.with_tries(self._tries) for start in starts if start.key not in self.known]
        batch = Batch(len(starts), found, self._record, self._log)
        try:
            self._hook.start_all(todo[:up_to], partial(self._is_unwanted, batch), partial(self._take, batch))
        except BaseException:  # A timeout or a kill as well: what was started has to be found.
            with suppress(Exception):
                batch.record()
            raise
        if batch.late:
            self._hook.cancel_operations(batch.late)
        batch.record()
        if self.stopped:
            raise TransientError("The task was killed: nothing more is started.")
        batch.log_end()
        if batch.failure:
            self._note_refused(*batch.failure)
            raise batch.failure[1]
        return batch.is_full

    def _is_unwanted(self, batch: Batch, start: Start) -> bool:
        """Whether a start is not wanted any more; asked in the thread that is about to send it."""
        # Written down first: either `stop` finds it, or this finds that there was a stop.
        is_first = start.key not in self._in_flight
        self._in_flight[start.key] = start
        if not (self.stopped or batch.is_over):
            return False
        if is_first:  # Otherwise Earth Engine may have acted on it.
            self._in_flight.pop(start.key, None)
        return True

    def _take(self, batch: Batch, result: tuple[Start, Operation | EarthEngineError]) -> None:
        """Take an operation, or why it was not started; called in the task's own thread."""
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
        """Say which starts were refused, and never succeeded: whoever asked for them may have swallowed the error.

        :raises EarthEngineError: if there are any; a `TransientError` if all of them may pass.
        """
        if not self._refused:
            return
        errors = [error for _, error in self._refused.values()]
        lines = [f"{start.describe()}: {error}" for start, error in self._refused.values()]
        kind = EarthEngineError if any(error.permanent for error in errors) else TransientError
        raise kind(
            "Earth Engine refused to start what the task wants:\n  " + "\n  ".join(lines),
            remedy="If the function deals with that itself, say ignore_refused_starts=True.",
        )

    @property
    def in_flight(self) -> list[Start]:
        """What Earth Engine may have started although its answer is not here yet."""
        return list(self._in_flight.values())

    def adopt(self, names: Sequence[str]) -> None:
        """Record operations that others have started."""
        if names:
            self._write(dict.fromkeys(names, ""))

    def flush(self) -> None:
        """Record what was started in threads that may not ask Airflow; called in the main thread."""
        if self._unrecorded:
            self._write(self._unrecorded)

    def _record(self, started: dict[str, str]) -> None:
        measure("operations_started", len(started), dag_id=self._dag_id)
        if threading.current_thread() is threading.main_thread() or threads_may_ask_airflow():
            self._write(started)
        else:
            self._unrecorded.update(started)

    def stop(self) -> None:
        """Start nothing more. Called in a signal handler: it waits for no lock."""
        self.stopped = True

    def cancel_late_starts(self) -> None:
        """Start nothing more, and cancel what is heard from now on to be started. Waits for no lock."""
        self.stopped = self._cancels_late_starts = True
