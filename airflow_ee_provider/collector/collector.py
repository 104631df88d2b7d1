"""The collector: reads changes in Airflow's database, and cancels operations that no task needs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.collector.cancels import LONGEST_RUN, Unneeded
from airflow_ee_provider.collector.decision import Verdict
from airflow_ee_provider.collector.memory import Known, Memory
from airflow_ee_provider.tracking.holders import id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_ee_provider.collector.cancels import Cancels
    from airflow_ee_provider.collector.decision import Decision
    from airflow_ee_provider.collector.look import Database, Seen
    from airflow_ee_provider.tracking.record import Record

#: Seconds for which the collector still reads a run after its end, since a task can record a late start after it.
LINGER = 600.0

#: How many runs the first check reads at a time, and the seconds between two reads.
PORTION, PAUSE = 500, 0.1

#: Seconds between two sweeps. A sweep finds runs that were started again and ended between two checks.
SWEEP = 300.0

#: The allowed difference between the clocks of this machine and of the database.
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass
class Collector:
    """Checks the database repeatedly. Each check does all work that is due.

    :param grace: Seconds between the check that first finds that no task needs an operation, and its cancel. In that
        time the task's own process or trigger can cancel it.
    """

    database: Database
    cancels: Cancels
    log: Any
    grace: float = 30.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    #: Seconds that the last check took to read the database.
    took: float = 0.0
    memory: Memory = field(init=False)
    _runs: dict[int, float] = field(default_factory=dict)
    _active: set[int] = field(default_factory=set)
    _newest: tuple[int, int] | None = None
    _swept: float = 0.0
    _told: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = Memory(self.database, self.log)

    def look(self) -> float | None:
        """Check once; return the seconds until the next cancel is due, or None if there is none."""
        if self._newest is None:
            self._look_back()
        begun = self.now()
        with self.database.connected():
            self._look()
        self.took = self.now() - begun
        due = self._collect()
        self._forget()
        return due

    def _look(self) -> None:
        before, newest = self._newest or (0, 0)
        # The database assigns a run's number before the run is visible: a run since the check before last may be new.
        states = self.database.active_runs(before)
        active = {run for run, is_active in states.items() if is_active}
        named = {known.instance.key.run for known in self.memory} | self._active
        if self.now() - self._swept >= SWEEP:
            named |= self._runs.keys() | self._changed()
        named -= active
        seen = self.database.look(before, named) if states else self.database.look_at(named)
        self._newest = (newest, max(newest, *states, *seen.active, *seen.ended, 0))
        self._see(seen, named, self.now())
        self._active = active | seen.active

    def _look_back(self) -> None:
        """Read the runs of the last `LONGEST_RUN`, newest first, `PORTION` at a time."""
        newest = self.database.newest_run()
        since, below = datetime.now(timezone.utc) - LONGEST_RUN, newest + 1
        self._swept = self.now()
        while runs := self.database.changed_runs(since, below, PORTION):
            with self.database.connected():
                self._see(self.database.look_at(runs), runs, self.now() - LINGER)
            self._collect()
            self._forget()
            below = runs[-1]
            self.sleep(PAUSE)
        self._newest = (newest, newest)

    def _changed(self) -> set[int]:
        """Return the runs that have changed since the last sweep."""
        since = datetime.now(timezone.utc) - timedelta(seconds=self.now() - self._swept) - CLOCKS_DIFFER
        self._swept = self.now()
        return set(self.database.changed_runs(since))

    def _see(self, seen: Seen, named: Collection[int], ended: float) -> None:
        """Update the memory with the results of a check.

        :param ended: The end, on the monotonic clock, of runs that no check has found before.
        """
        self.memory.update(seen, named)
        self._runs.update(dict.fromkeys(seen.active, self.now()))
        for run in seen.ended:
            self._runs.setdefault(run, ended)

    def _collect(self) -> float | None:
        """Cancel operations that no task has needed for `grace` seconds; return the seconds until the next is due."""
        found = [(known, self._unneeded(known)) for known in self.memory]
        needed = self.memory.needed() if any(one.operations for _, one in found) else set()
        due: list[tuple[Known, Unneeded]] = []
        waits: list[float] = []
        for known, of_its_task in found:
            known.has_unneeded = bool(of_its_task.operations)
            unneeded = self._but_for(of_its_task, needed)
            since = {name: known.unneeded_since.get(name, self.now()) for _, name in unneeded.operations}
            remaining = {name: began + self.grace - self.now() for name, began in since.items()}
            known.unneeded_since = since
            waits += [seconds for seconds in remaining.values() if seconds > 0]
            if operations := tuple(one for one in unneeded.operations if remaining[one[1]] <= 0):
                due.append((known, replace(unneeded, operations=operations)))
        if due:
            done = self.cancels.cancel([unneeded for _, unneeded in due])
            for known, unneeded in due:
                known.dealt_with |= done & {name for _, name in unneeded.operations}
        return min(waits, default=None)

    def _unneeded(self, known: Known) -> Unneeded:
        """Return which operations of a record its task does not need."""
        operations: list[tuple[dict[str, Any] | None, str]] = []
        reason = ""
        for part, decision in self._decided(known):
            if decision.verdict is Verdict.CANCEL:
                reason = decision.reason
                operations += [(part.account, name) for name in part.operation_names if name not in known.dealt_with]
            elif decision.verdict is Verdict.UNCLEAR:
                self._tell(known, f"Not cancelling the operations of {known.instance.name}: it {decision.reason}.")
        return Unneeded(known.instance, reason, tuple(operations))

    def _decided(self, known: Known) -> list[tuple[Record, Decision]]:
        """Decide about each part; read the audit log if no check has found the task instance before it failed."""
        decisions = known.decide()
        is_unclear = any(decision.verdict is Verdict.UNCLEAR for _, decision in decisions)
        if not is_unclear or known.instance.state != "failed" or known.has_asked_log:
            return decisions
        known.has_asked_log = True
        known.was_waiting = known.was_waiting or self.database.was_ended_by_a_user(known.instance)
        return known.decide()

    def _but_for(self, unneeded: Unneeded, wanted: Collection[str]) -> Unneeded:
        """Return the same without operations that another task needs."""
        kept = tuple((account, name) for account, name in unneeded.operations if id_of(name) not in wanted)
        if len(kept) < len(unneeded.operations):
            self.log.debug("%s: another task needs some of its operations.", unneeded.instance.name)
        return Unneeded(unneeded.instance, unneeded.reason, kept)

    def _tell(self, known: Known, text: str) -> None:
        """Log a line, unless it is the same as the record's last one."""
        if self._told.get(id(known)) != text:
            self._told[id(known)] = text
            self.log.info("%s", text)

    def _forget(self) -> None:
        """Forget runs that ended `LINGER` seconds ago, except those that still have operations to cancel."""
        kept = {known.instance.key.run for known in self.memory if known.has_unneeded}
        over = {run for run, seen in self._runs.items() if self.now() - seen >= LINGER and run not in kept}
        for run in over:
            del self._runs[run]
        self.memory.forget(over)
        alive = {id(known) for known in self.memory}
        self._told = {known: text for known, text in self._told.items() if known in alive}
