"""The requests of a task's function: the exports to start, and the operations that the task waits for.

Each try makes the same starts from the same requests, in any order.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ee_provider.earth_engine.ee_client.objects import place_of
from airflow_ee_provider.earth_engine.ee_client.side_effects import Deeds
from airflow_ee_provider.earth_engine.model.destinations import console_url_of, destination_of
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.starting import (
    Export,
    Import,
    Start,
    check_export,
    check_import,
    with_defaults,
)
from airflow_ee_provider.tracking.kept_requests import Asked
from airflow_ee_provider.tracking.record import run_started

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.exports.starter import Starter
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: How many equal starts of an earlier try to check, in addition to those that this try has already made.
LOOKED_AHEAD = 3

#: A request for an operation: an export, an import or a registered start, which the task starts; or the name of an
#: operation that it adopts.
Wanted = Export | Import | Start | OperationName


#: The `Start.repeat` of each start that was made, by `Start.asked`.
Repeats = defaultdict[tuple[str, ...], set[int]]


class Made(NamedTuple):
    """A function's return value and its operations.

    :param value: The value, with a `place_of` in place of each operation.
    :param operations: The operations in these places, and after them others that the task owns.
    """

    value: Any
    operations: Sequence[Wanted]

    @classmethod
    def of(cls, made: Made | Sequence[Wanted]) -> Made:
        """Return a `Made`. If only operations are given, their list is the value."""
        return made if isinstance(made, Made) else cls([place_of(number) for number in range(len(made))], made)

    @property
    def adopted(self) -> list[str]:
        """The operations that were started before."""
        return [str(one) for one in self.operations if isinstance(one, OperationName)]

    @property
    def output_url(self) -> str:
        """The URL of the first export's output; empty if there is none."""
        return next((console_url_of(one.body) for one in self.requests if not isinstance(one, Import)), "")

    def with_registered(self, starts: Iterable[Start]) -> Made:
        """Return a copy with the starts that the function has registered but not returned."""
        placed = {one.key for one in self.operations if isinstance(one, Start)}
        return self._replace(operations=[*self.operations, *(one for one in starts if one.key not in placed)])

    @property
    def requests(self) -> list[Export | Import | Start]:
        """The operations that are to be started."""
        return [one for one in self.operations if not isinstance(one, OperationName)]


def all_asked(
    hook: EarthEngineHook, starter: Starter, made: Made, left: Iterable[str], recorded: Iterable[tuple[str, str]]
) -> Asked:
    """Return the exports to start, and the operations to wait for.

    The last try's operations still belong to the task, even if the function does not make them again. The task does not
    wait for operations that the function has cancelled, nor for failed ones in whose place it has started others.

    :param left: The last try's operations that are active or have succeeded.
    :param recorded: The operations that this try has recorded, each with its `Start.key`.
    """
    key_of = {name: key for name, key in recorded if key}
    starts = {id(one): starter.start_of(one) for one in made.requests}

    def meant(one: Wanted) -> str:
        return key_of.get(str(one), str(one)) if isinstance(one, OperationName) else starts[id(one)].key

    in_value = [meant(one) for one in made.operations]
    dealt_with = starter.deeds.cancelled | failed_among(hook, superseded(starter.started))
    own = [name for name in starter.started if name not in dealt_with]
    others = [name for name in left if name not in dealt_with and name not in starter.deeds.set_aside]
    # An operation after which another one was started with the same key is in `Deeds.set_aside`.
    without = {key_of.get(name, name) for name in dealt_with - starter.deeds.set_aside}
    started_by_function, of_last_try = ([key_of.get(name, name) for name in names] for names in (own, others))
    needed = started_by_function + in_value + of_last_try
    return Asked(
        made.value,
        in_value,
        [one for one in dict.fromkeys(needed) if one not in without],
        [*starter.started.values(), *starts.values()],
        set(starter.deeds.set_aside),
        {*started_by_function, *of_last_try} - {start.key for start in starts.values()},
    )


def superseded(started: Mapping[str, Start]) -> list[str]:
    """Return the operations after which another one with the same destination was started.

    :param started: By operation name, in the order in which they were started.
    """
    destinations = {name: destination_of(start.body) for name, start in started.items()}
    last = {destination: name for name, destination in destinations.items() if destination}
    return [name for name, destination in destinations.items() if last.get(destination, name) != name]


def failed_among(hook: EarthEngineHook, names: list[str]) -> set[str]:
    """Return which of the operations have failed."""
    found = hook.read_operations(names) if names else {}
    return {str(name) for name, one in found.items() if isinstance(one, Operation) and one.failed}


class StartMaker:
    """Makes the starts of one process of a task.

    :param context: The task's context. All tries of a task instance derive the same identity from it.
    :param known: The operations that the task has started before and continues with, by `Start.key`.
    :param tries: How often each export may have been started, this time included; by default the task's try number.
    :param workload_tag: The tag of exports that have none of their own; empty for none.
    :param priority: The priority of exports that have none of their own; None for Earth Engine's default.
    :param repeats: The starts that the task has made before; new ones are added.
    """

    def __init__(
        self,
        context: Context,
        *,
        known: Mapping[str, str] | None = None,
        tries: int | None = None,
        workload_tag: str | None = None,
        priority: int | None = None,
        repeats: Repeats | None = None,
    ) -> None:
        # The identity is the same for all tries of a task instance, until a clear changes `max_tries`. The run's start
        # time distinguishes the run from one with the same id: in another deployment, or created after it was deleted.
        ti, began = context["ti"], run_started(context) or ""
        self._identity = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}/{began}"
        self._tries = max(1, ti.try_number) if tries is None else tries
        self._workload_tag, self._priority = workload_tag, priority
        #: By `Start.asked`: the `Start.repeat` of each start that was made, and of each start that has failed.
        self._repeats = defaultdict(set) if repeats is None else repeats
        self._own_repeats: list[tuple[tuple[str, ...], int]] = []
        self._failed_repeats: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        #: The operations that the task is known to have started, by `Start.key`.
        self.known = dict(known or {})
        #: The starts that this process has sent or found, by operation name, in that order.
        self.started: dict[str, Start] = {}
        #: The changes that the function's own requests have made.
        self.deeds = Deeds()

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try may have started the same operations."""
        return self._tries > 1

    def check(self, requests: Sequence[Export | Import | Start]) -> None:
        """Check requests for errors that Earth Engine would report late.

        :raises InvalidRequestError: If a request is invalid.
        """
        for one in requests:
            if isinstance(one, Import):
                check_import(one)
            elif isinstance(one, Export):
                check_export(replace(one, body=with_defaults(one.body, self._workload_tag, self._priority)))

    def prepare(self, method: str, body: Mapping[str, Any], project: str = "") -> Start:
        """Return the start for a request. For a repeated request, return another start.

        :param method: ``image:export``, ``table:import`` and so on.
        :param body: The request's JSON.
        """
        if method.endswith(":export"):
            body = with_defaults(body, self._workload_tag, self._priority)
        plain = {name: value for name, value in body.items() if name != "requestId"}
        start = Start(method, plain, self._identity, project, 0, self._tries)
        failed = self._failed_repeats[start.asked]
        start = start.repeated(failed.pop() if failed else self._next_repeat(start))
        self._repeats[start.asked].add(start.repeat)
        self._own_repeats.append((start.asked, start.repeat))
        return self._as_of_now(start)

    def release(self) -> None:
        """Let equal requests make the same starts again."""
        for asked, repeat in self._own_repeats:
            self._repeats[asked].discard(repeat)

    def _next_repeat(self, start: Start) -> int:
        """Return the `Start.repeat` of a new start; preferably that of a start that an earlier try has made."""
        taken = self._repeats[start.asked]
        unused = [number for number in range(len(taken) + LOOKED_AHEAD) if number not in taken]
        known = (number for number in unused if self.known and start.repeated(number).key in self.known)
        return next(known, unused[0])

    def _as_of_now(self, start: Start) -> Start:
        """Return the start with its present `Start.gone_since`; set aside its operation if another may replace it."""
        gone_since = self.deeds.gone_since(destination_of(start.body))
        name = self.known.get(start.key, "")
        if name in self.started:
            return start
        if name and (gone_since is not None or name in self.deeds.cancelled):
            # `start_once` reads the operation, and starts another one if it was cancelled or if its output is gone.
            del self.known[start.key]
            self.deeds.set_aside.add(name)
        return replace(start, gone_since=gone_since).known_by(start.key) if gone_since is not None else start

    def start_of(self, wanted: Export | Import | Start) -> Start:
        """Return the start for a request that a function has returned or registered."""
        if isinstance(wanted, Start):
            return self._as_of_now(wanted)
        return self.prepare(wanted.method, wanted.body, wanted.project)


def tries_so_far(context: Context, max_restarts: int, *, is_restart: bool) -> int:
    """Return how often each export of a task may have been started, including this time; 1 if it is the first time."""
    try_number = max(1, context["ti"].try_number)
    return try_number * (1 + max_restarts) if is_restart or try_number > 1 else 1
