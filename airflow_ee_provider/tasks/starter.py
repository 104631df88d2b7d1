"""Start operations for a task: exactly once each, recorded before anything else, and none after a kill."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timezone
from itertools import count
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.client.drivers import run
from airflow_ee_provider.earth_engine.errors import EarthEngineError, TransientError
from airflow_ee_provider.earth_engine.flows.calls import encode
from airflow_ee_provider.earth_engine.flows.starting import Start, start_once, with_defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.client.transports import SyncTransport
    from airflow_ee_provider.earth_engine.operations import Operation
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook


class Starter:
    """What one try of a task starts. Threads may share it; `stop` waits for none of them.

    :param hook: starts what nobody else sends.
    :param context: the task's, which makes the identity that its tries have in common.
    :param record: is told of each operation, before anything else is done with it.
    :param workload_tag: for what has none of its own; empty for none.
    :param priority: for what has none of its own; None for Earth Engine's default.
    """

    def __init__(
        self,
        hook: EarthEngineHook,
        context: Context,
        record: Callable[[str], None],
        *,
        workload_tag: str | None = None,
        priority: int | None = None,
    ) -> None:
        ti, run_started = context["ti"], getattr(context.get("dag_run"), "start_date", None)
        # What the tries of a task instance have in common: all but its clears, which change `max_tries`. When the run
        # began tells it from one of the same name: in another deployment, or made again after it was deleted.
        began = run_started.isoformat() if run_started else ""
        self._identity = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}/{began}"
        self._run_began: datetime | None = run_started
        self._tries = max(1, ti.try_number)
        self._hook, self._record, self._log = hook, record, hook.log
        self._workload_tag, self._priority = workload_tag, priority
        self._repeats: Counter[bytes] = Counter()
        self._free: defaultdict[bytes, list[int]] = defaultdict(list)
        self._numbers = count()
        self._under_way: dict[int, Start] = {}
        self._refused: dict[bytes, tuple[Start, EarthEngineError]] = {}
        #: The descriptions of what was started, by operation.
        self.started: dict[str, str] = {}
        #: No start is begun any more, and what has just been started is cancelled.
        self.stopped = False

    def plan(self, method: str, body: Mapping[str, Any], project: str = "") -> Start:
        """Return the start of what is asked for; asking for the same thing again is another start.

        :param method: ``image:export``, ``table:import`` and so on.
        :param body: the API's own JSON.
        """
        if method.endswith(":export"):
            body = with_defaults(body, self._workload_tag, self._priority)
        plain = {name: value for name, value in body.items() if name != "requestId"}
        asked = _asked(method, project, plain)
        if free := self._free.get(asked):
            repeat = free.pop()
        else:
            repeat = self._repeats[asked]
            self._repeats[asked] += 1
        age = datetime.now(timezone.utc) - self._run_began if self._run_began else None
        return Start(method, plain, self._identity, project, repeat, self._tries, age)

    def start(self, start: Start, transport: SyncTransport | None = None) -> Operation:
        """Start it, or find it started, and record it.

        :param transport: sends the requests; by default the hook's own.
        :raises EarthEngineError: if it could not be started, or nothing more is to be started.
        """
        if self.stopped:
            raise TransientError("Nothing more is started.", subject=start.describe())
        number, asked = next(self._numbers), _asked(start.method, start.project, start.body)
        self._under_way[number] = start
        try:
            operation = self._send(start, transport)
            name = str(operation.name)
            is_new = name not in self.started
            self.started[name] = str(start.body.get("description") or "")
        except EarthEngineError as error:
            # Whoever asks for it again repeats this start: Earth Engine may have acted.
            self._free[asked].append(start.repeat)
            if not self.stopped:
                self._refused[asked] = (start, error)
            del self._under_way[number]
            raise
        self._refused.pop(asked, None)
        del self._under_way[number]  # Not where a timeout or a signal has come between: `stop` asks what became of it.
        if self.stopped:  # The answer has come after the kill.
            self._hook.cancel_operations([name])
            raise TransientError("The task was killed while this was started; it is cancelled.", subject=name)
        if is_new:
            self._record(name)
            self._log.info("Started %s: %s%s", start.describe(), operation.name, _destination(start))
        return operation

    def _send(self, start: Start, transport: SyncTransport | None) -> Operation:
        if transport is None:
            return self._hook.start_once(start, lambda: self.stopped)
        return run(start_once(start.project, start, lambda: self.stopped), transport, self._log)

    def check_refusals(self) -> None:
        """Say which starts were refused, and never succeeded: whoever asked for them may have swallowed the error.

        :raises EarthEngineError: if there are any; one that passes, if all of them may pass.
        """
        if not self._refused:
            return
        errors = [error for _, error in self._refused.values()]
        lines = [f"{start.describe()}: {error}" for start, error in self._refused.values()]
        kind = EarthEngineError if any(error.permanent for error in errors) else TransientError
        raise kind("Earth Engine refused to start what the task wants:\n  " + "\n  ".join(lines))

    @property
    def is_busy(self) -> bool:
        """Whether an answer to a start is still awaited."""
        return bool(self._under_way)

    def stop(self) -> list[str]:
        """Start nothing more; return what Earth Engine may have started although its answer is not here yet.

        Called in a signal handler: it waits for no lock.
        """
        self.stopped = True
        found = []
        for start in list(self._under_way.values()):
            try:
                # The same request again: it names the operation, whether or not the first one came through.
                found.append(str(self._hook.start_once(start).name))
            except EarthEngineError as error:
                self._log.error("%s may have been started, and may run: %s", start.describe(), error)
        return found


def _asked(method: str, project: str, body: Mapping[str, Any]) -> bytes:
    return encode({"method": method, "project": project, "body": body})


def _destination(start: Start) -> str:
    from airflow_ee_provider.earth_engine.destinations import console_url_of

    url = console_url_of(start.body)
    return f" → {url}" if url else ""
