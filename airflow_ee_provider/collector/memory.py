"""The collector's memory between two checks: the records of task instances, and since when no task needs an operation.

Airflow deletes a try's record when the next try begins. So if a check does not find a record, the memory reads its task
instance by key.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.collector.decision import GONE, WAITS_WITHOUT_A_PROCESS, Decision, Facts, Verdict, decide
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES, id_of
from airflow_ee_provider.tracking.record import Ownership, Record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_ee_provider.collector.look import Database, Instance, Seen
    from airflow_ee_provider.tracking.record_tables import Key


@dataclass
class Known:
    """A record, and its task instance as the last check found it.

    :param was_waiting: Whether it was in a state without a process when a check last found it active.
    :param is_replaced: Whether the next try has begun.
    :param unneeded_since: By operation name, since when no task needs it, in seconds of the monotonic clock.
    :param dealt_with: The operations that need no further attempt.
    :param has_unneeded: Whether its own task does not need some of its operations. Another task may need them.
    :param has_asked_log: Whether the collector has read the task instance's state before it failed from Airflow's
        audit log.
    """

    instance: Instance
    parts: list[Record]
    was_waiting: bool = False
    is_replaced: bool = False
    unneeded_since: dict[str, float] = field(default_factory=dict)
    dealt_with: frozenset[str] = frozenset()
    has_unneeded: bool = False
    has_asked_log: bool = False

    def decide(self) -> list[tuple[Record, Decision]]:
        """Return the decision about each part."""
        one = self.instance
        return [
            (
                part,
                decide(
                    Facts(
                        one.state,
                        one.run_state,
                        one.try_number,
                        one.max_tries,
                        one.run_started,
                        part,
                        one.settled_try,
                        is_replaced=self.is_replaced,
                        was_waiting=self.was_waiting,
                    )
                ),
            )
            for part in self.parts
        ]

    def see(self, instance: Instance) -> None:
        """Replace the task instance by its present state."""
        if instance.state == "running" or instance.state in WAITS_WITHOUT_A_PROCESS:
            self.was_waiting = instance.state != "running"
        self.instance = instance

    @property
    def recorded_by(self) -> int:
        """The number of the try that wrote the record."""
        return (self.parts[0].try_number if self.parts else None) or self.instance.try_number


class Memory:
    """Records by task instance: the present one, and those of earlier tries whose operations may still run.

    :param log: Gets a warning for each record that cannot be read.
    """

    def __init__(self, database: Database, log: Any) -> None:
        self._database, self._log = database, log
        self._present: dict[Key, Known] = {}
        self._earlier: list[Known] = []

    def __iter__(self) -> Iterator[Known]:
        yield from self._present.values()
        yield from self._earlier

    def __len__(self) -> int:
        return len(self._present) + len(self._earlier)

    def update(self, seen: Seen, named: Collection[int] = ()) -> None:
        """Update the memory with the results of a check: read new records, and task instances that it did not find.

        :param named: The runs that the check asked for. If the check did not find one of them, it was deleted.
        """
        found = {one.key: one for one in seen.instances}
        records = self._database.records(one for one in seen.instances if self._is_news(one))
        for key, instance in found.items():
            if key in records:
                self._read(instance, records[key])
            else:
                self._present[key].see(instance)
        looked_at = seen.active | seen.ended | frozenset(named)
        missing = {key for key in self._present if key.run in looked_at and key not in found}
        missing |= {
            one.instance.key
            for one in self._earlier
            if one.instance.key.run in looked_at and one.instance.key not in found
        }
        now = self._database.again(missing) if missing else {}
        for key in missing & self._present.keys():
            self._miss(self._present[key], now.get(key))
        for one in self._earlier:
            if latest := found.get(one.instance.key) or now.get(one.instance.key):
                one.instance = latest
            elif one.instance.key in missing:
                one.instance = replace(one.instance, state=GONE)

    def forget(self, runs: Collection[int]) -> None:
        """Forget the records of these runs."""
        gone = set(runs)
        self._present = {key: one for key, one in self._present.items() if key.run not in gone}
        self._earlier = [one for one in self._earlier if one.instance.key.run not in gone]

    def drop(self, known: Known) -> None:
        """Forget one record."""
        if self._present.get(known.instance.key) is known:
            del self._present[known.instance.key]
        self._earlier = [one for one in self._earlier if one is not known]

    def needed(self) -> set[str]:
        """Return the ids of operations that a task needs or may need, or that its active run may still need."""
        return {
            id_of(name)
            for known in self
            for part, decision in known.decide()
            if decision.verdict in (Verdict.NEEDED, Verdict.UNCLEAR)
            or (part.ownership == Ownership.HANDED_OFF and known.instance.run_state in ACTIVE_RUN_STATES)
            for name in part.operation_names
        }

    def _is_news(self, instance: Instance) -> bool:
        known = self._present.get(instance.key)  # Each addition writes the last part of a record again.
        return known is None or known.instance.recorded_at != instance.recorded_at

    def _read(self, instance: Instance, record: list[Record] | Exception) -> None:
        """Update the memory with a task instance's record."""
        before = self._present.get(instance.key)
        if isinstance(record, Exception):
            self._log.warning(
                "Not cancelling the operations of %s: could not read its record: %s", instance.name, record
            )
            record = []
        now = Known(instance, record)
        if before and before.parts and record and before.recorded_by == now.recorded_by:
            before.parts = record
            before.see(instance)
            return
        if before and before.parts:
            self._replace(before, instance)
        now.see(instance)
        self._present[instance.key] = now

    def _miss(self, known: Known, now: Instance | None) -> None:
        """Update the memory with a record that a check no longer found."""
        if now is None:
            known.see(replace(known.instance, state=GONE))
        elif now.recorded_at == known.instance.recorded_at:  # No operation needs a cancel, as the task has recorded.
            self.drop(known)
        elif now.try_number > known.recorded_by:
            del self._present[known.instance.key]
            self._replace(known, now)
        elif now.state in ACTIVE_STATES:
            known.see(now)  # Before 3.3, each poke of a rescheduled sensor deletes its record, and writes it again.
        else:
            self._log.info("Not cancelling the operations of %s: its record was deleted.", known.instance.name)
            self.drop(known)

    def _replace(self, known: Known, now: Instance) -> None:
        known.is_replaced = True
        known.instance = now
        if any(part.ownership in (Ownership.OWNER, Ownership.HANDED_OFF) for part in known.parts):
            self._earlier.append(known)
