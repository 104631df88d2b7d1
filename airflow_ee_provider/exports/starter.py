"""Start operations for a task: exactly once each, recorded before anything else, and none after a kill."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.ee_client.side_effects import Deeds
from airflow_ee_provider.earth_engine.model.destinations import destination_of
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, QueueFullError, TransientError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import Start, start_once, with_defaults
from airflow_ee_provider.earth_engine.transport.drivers import run
from airflow_ee_provider.exports.side_by_side import Bulk, arrow_to, description_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.transports import SyncTransport
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


#: Seconds after which a function's start is tried again where the project's queue is full.
TRY_AGAIN_IN_FUNCTION = 30.0

#: How many equal starts of an earlier try are looked for beyond those that this one has asked for.
LOOKED_AHEAD = 3


class Starter:
    """What one try of a task starts. Threads may share it; `stop` waits for none of them.

    :param hook: starts what nobody else sends.
    :param context: the task's, which makes the identity that its tries have in common.
    :param record: is told of operations, each with its `Start.key`, before anything else is done with them.
    :param known: what the task has started before, and goes on with, by `Start.key`.
    :param tries: how often each may have been started, this time included; by default the number of the task's try.
    :param queue_timeout: seconds for which a function's start waits for room; None for as long as it takes.
    :param workload_tag: for what has none of its own; empty for none.
    :param priority: for what has none of its own; None for Earth Engine's default.
    """

    def __init__(
        self,
        hook: EarthEngineHook,
        context: Context,
        record: Callable[[dict[str, str]], None],
        *,
        known: Mapping[str, str] | None = None,
        tries: int | None = None,
        queue_timeout: float | None = None,
        workload_tag: str | None = None,
        priority: int | None = None,
    ) -> None:
        ti, run_started = context["ti"], getattr(context.get("dag_run"), "start_date", None)
        # What the tries of a task instance have in common: all but its clears, which change `max_tries`. When the run
        # began tells it from one of the same name: in another deployment, or made again after it was deleted.
        began = run_started.isoformat() if run_started else ""
        self.identity = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}/{began}"
        self._tries = max(1, ti.try_number) if tries is None else tries
        self._hook, self._record, self._log = hook, record, hook.log
        self._known = dict(known or {})
        self._queue_timeout = queue_timeout
        self._workload_tag, self._priority = workload_tag, priority
        self._asked_for: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
        self._free: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._under_way: dict[str, Start] = {}
        self._refused: dict[tuple[str, ...], tuple[Start, EarthEngineError]] = {}
        #: The descriptions of what was started, by operation.
        self.started: dict[str, str] = {}
        #: What the function has started by itself, and what each operation of it writes.
        self.by_function: dict[str, Start] = {}
        self.destinations: dict[str, str] = {}
        #: What else the function has done.
        self.deeds = Deeds()
        #: No start is begun any more.
        self.stopped = False
        self._is_cancelled = False
        #: Whether the last of `start_all` has met a full queue.
        self.is_full = False

    def plan(self, method: str, body: Mapping[str, Any], project: str = "") -> Start:
        """Return the start of what is asked for; asking for the same thing again is another start.

        :param method: ``image:export``, ``table:import`` and so on.
        :param body: the API's own JSON.
        """
        if method.endswith(":export"):
            body = with_defaults(body, self._workload_tag, self._priority)
        plain = {name: value for name, value in body.items() if name != "requestId"}
        gone_since = self.deeds.gone_since(destination_of(plain))
        start = Start(method, plain, self.identity, project, 0, self._tries, gone_since)
        start = start.repeated(self._free[start.asked].pop() if self._free.get(start.asked) else self._next(start))
        self._asked_for[start.asked].add(start.repeat)
        name = self._known.get(start.key, "")
        if name and (gone_since is not None or name in self.deeds.cancelled):
            # It is asked for, and followed by another one if it was cancelled, or has written what is gone.
            del self._known[start.key]
            self.deeds.set_aside.add(name)
        return start

    def _next(self, start: Start) -> int:
        """Return which of several equal starts this is: first of all, one that an earlier try has started."""
        taken = self._asked_for[start.asked]
        unused = [number for number in range(len(taken) + LOOKED_AHEAD) if number not in taken]
        known = (number for number in unused if self._known and start.repeated(number).key in self._known)
        return next(known, unused[0])

    def start(self, start: Start, transport: SyncTransport | None = None) -> Operation:
        """Start it, or find it started, and record it.

        :param transport: sends the requests; by default the hook's own.
        :raises EarthEngineError: if it could not be started, or nothing more is to be started.
        """
        if self.stopped:
            raise TransientError("Nothing more is started.", subject=start.describe())
        if name := self._known.get(start.key):
            self._note(name, start)
            return Operation.unread(OperationName.parse(name))
        self._under_way[start.key] = start
        try:
            operation = self._send(start, transport)
            name = str(operation.name)
            is_new = name not in self.started
            self._note(name, start)
        except EarthEngineError as error:
            # Whoever asks for it again repeats this start: Earth Engine may have acted.
            self._free[start.asked].append(start.repeat)
            if not self.stopped:
                self._refused[start.asked] = (start, error)
            self._under_way.pop(start.key, None)
            raise
        self._refused.pop(start.asked, None)
        # Not where a timeout or a signal has come between: `stop` asks what became of it.
        self._under_way.pop(start.key, None)
        if is_new and self.is_wanted:
            self._record({name: start.key})
        if self.stopped:  # The answer has come after the kill.
            self.cancel_late([name])
            raise TransientError("The task was killed while this was started: it does not go on.", subject=name)
        if is_new:
            self._log.info("Started %s: %s%s", start.describe(), operation.name, arrow_to(start))
        return operation

    def _note(self, name: str, start: Start) -> None:
        """Remember what the function has started, in its order."""
        self.started[name] = description_of(start)
        self._known[start.key] = name
        self.by_function[start.key] = start
        self.destinations[name] = destination_of(start.body)

    def start_all(self, starts: Sequence[Start], most: int | None = None) -> list[Start]:
        """Start them side by side, or find them started, and record them a few at a time.

        :param most: how many are started now; None for all.
        :return: those that are left, because there is no room for them; the others have a `name_of` now.
        :raises EarthEngineError: if one could not be started, once nothing more is under way.
        """
        found = {start.key: start for start in starts if self.has_started(start)}
        self.started.update({self._known[key]: description_of(start) for key, start in found.items()})
        bulk = Bulk(self, self._known, len(starts), len(found))
        try:
            todo = [start.with_tries(self._tries) for start in starts if not self.has_started(start)]
            self._hook.start_all(todo[:most], bulk.is_unwanted, bulk.done)
        except BaseException:  # Whatever it is, a timeout or a kill: what was started has to be found.
            with suppress(Exception):
                bulk.record()
            raise
        bulk.end()
        self.is_full = bulk.is_full
        return [start for start in starts if not self.has_started(start)]

    def has_started(self, start: Start) -> bool:
        """Whether something is known to be started."""
        return start.key in self._known

    @property
    def known(self) -> Mapping[str, str]:
        """What is known to be started, by `Start.key`."""
        return self._known

    def name_of(self, start: Start) -> str:
        """Return the operation of what is started."""
        return self._known[start.key]

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
                self._log.warning("%s It is tried again in %g s.", error, TRY_AGAIN_IN_FUNCTION)
                self._under_way.pop(start.key, None)  # Nothing is under way for that time.
                time.sleep(TRY_AGAIN_IN_FUNCTION)
                self._under_way[start.key] = start

    def check_refusals(self) -> None:
        """Say which starts were refused, and never succeeded: whoever asked for them may have swallowed the error.

        :raises EarthEngineError: if there are any; one that passes, if all of them may pass.
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
    def is_busy(self) -> bool:
        """Whether an answer to a start is still awaited."""
        return bool(self._under_way)

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try may have started the same."""
        return self._tries > 1

    @property
    def superseded(self) -> list[str]:
        """The operations after which the function has started another one that writes the same, in its order."""
        last = {destination: name for name, destination in self.destinations.items() if destination}
        return [name for name, destination in self.destinations.items() if last.get(destination, name) != name]

    def stop(self) -> list[str]:
        """Start nothing more; return what was started. Called in a signal handler: it waits for no lock."""
        self.stopped = True
        return list(self.started)

    @property
    def under_way(self) -> list[Start]:
        """What Earth Engine may have started although its answer is not here yet."""
        return list(self._under_way.values())

    @property
    def is_wanted(self) -> bool:
        """Whether what is started now is recorded, for this process, or another try, to decide about."""
        return not self._is_cancelled

    def cancel_what_comes(self) -> None:
        """Start nothing more, and cancel what is heard from now on to be started. Waits for no lock."""
        self.stopped = self._is_cancelled = True

    def cancel_late(self, names: list[str]) -> None:
        """Cancel what was heard to be started after all else was cancelled."""
        if names and self._is_cancelled:
            self._hook.cancel_operations(names)
