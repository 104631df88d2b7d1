"""Make the start of what a task's function asks for: each try makes the same ones, in any order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.ee_client.side_effects import Deeds
from airflow_ee_provider.earth_engine.model.destinations import destination_of
from airflow_ee_provider.earth_engine.protocol.starting import (
    Export,
    Import,
    Start,
    check_export,
    check_import,
    with_defaults,
)
from airflow_ee_provider.tracking.store import run_started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

#: How many equal starts of an earlier try to look for, beyond those that this one has asked for.
LOOKED_AHEAD = 3


class StartMaker:
    """Makes the starts of one process of a task.

    :param context: the task's, which makes the identity that its tries have in common.
    :param known: what the task has started before, and continues with, by `Start.key`.
    :param tries: how often each may have been started, this time included; by default the number of the task's try.
    :param workload_tag: for what has none of its own; empty for none.
    :param priority: for what has none of its own; None for Earth Engine's default.
    """

    def __init__(
        self,
        context: Context,
        *,
        known: Mapping[str, str] | None = None,
        tries: int | None = None,
        workload_tag: str | None = None,
        priority: int | None = None,
    ) -> None:
        # What the tries of a task instance have in common: all but its clears, which change `max_tries`. When the run
        # began distinguishes it from one of the same name: in another deployment, or made again after it was deleted.
        ti, began = context["ti"], run_started(context) or ""
        self._identity = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/{ti.max_tries}/{began}"
        self._tries = max(1, ti.try_number) if tries is None else tries
        self._workload_tag, self._priority = workload_tag, priority
        #: How many equal starts came before each that was asked for, and those of which the start has failed.
        self._repeats: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
        self._failed_repeats: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        #: What the task is known to have started, by `Start.key`.
        self.known = dict(known or {})
        #: What this process has started or found, by operation, in that order.
        self.started: dict[str, Start] = {}
        #: What else the function has done.
        self.deeds = Deeds()

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try may have started the same."""
        return self._tries > 1

    def check(self, requests: Sequence[Export | Import | Start]) -> None:
        """Refuse what the API would refuse late.

        :raises InvalidRequestError: says what is wrong.
        """
        for one in requests:
            if isinstance(one, Import):
                check_import(one)
            elif isinstance(one, Export):
                check_export(replace(one, body=with_defaults(one.body, self._workload_tag, self._priority)))

    def prepare(self, method: str, body: Mapping[str, Any], project: str = "") -> Start:
        """Return the start of what is asked for; asking for the same thing again is another start.

        :param method: ``image:export``, ``table:import`` and so on.
        :param body: the API's own JSON.
        """
        if method.endswith(":export"):
            body = with_defaults(body, self._workload_tag, self._priority)
        plain = {name: value for name, value in body.items() if name != "requestId"}
        start = Start(method, plain, self._identity, project, 0, self._tries)
        failed = self._failed_repeats[start.asked]
        start = start.repeated(failed.pop() if failed else self._next_repeat(start))
        self._repeats[start.asked].add(start.repeat)
        return self._as_of_now(start)

    def _next_repeat(self, start: Start) -> int:
        """Return which of several equal starts this is: first of all, one that an earlier try has started."""
        taken = self._repeats[start.asked]
        unused = [number for number in range(len(taken) + LOOKED_AHEAD) if number not in taken]
        known = (number for number in unused if self.known and start.repeated(number).key in self.known)
        return next(known, unused[0])

    def _as_of_now(self, start: Start) -> Start:
        """Return a start that knows whether what it writes is gone by now; what has written that is set aside."""
        gone_since = self.deeds.gone_since(destination_of(start.body))
        name = self.known.get(start.key, "")
        if name in self.started:
            return start
        if name and (gone_since is not None or name in self.deeds.cancelled):
            # It is asked for, and followed by another one if it was cancelled, or has written what is gone.
            del self.known[start.key]
            self.deeds.set_aside.add(name)
        return replace(start, gone_since=gone_since).known_by(start.key) if gone_since is not None else start

    def start_of(self, wanted: Export | Import | Start) -> Start:
        """Return the start of what a function has returned, or has registered."""
        if isinstance(wanted, Start):
            return self._as_of_now(wanted)
        return self.prepare(wanted.method, wanted.body, wanted.project)
