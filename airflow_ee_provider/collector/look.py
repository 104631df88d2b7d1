"""Read the records of operations and the states of their tasks from Airflow's database, for the collector.

A check reads only active runs, new runs, and the runs that the collector names.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.stored_values import or_error, xcom_backend
from airflow_ee_provider.base.task_states import word_of
from airflow_ee_provider.collector.decision import WAITS_WITHOUT_A_PROCESS
from airflow_ee_provider.collector.tables import Tables
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.notes import SETTLED_KEY, settled_try
from airflow_ee_provider.tracking.record import OPERATIONS_KEY
from airflow_ee_provider.tracking.record_tables import AT_A_TIME, Key, key_of, portions, read_records, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from airflow_ee_provider.tracking.record import Record


@dataclass(frozen=True)
class Instance:
    """A task instance that has recorded operations, as it is in Airflow's database now.

    :param recorded_at: When it recorded them; None if its record no longer exists.
    :param settled_try: The try that has recorded that no operation needs a cancel.
    :param stored: Whether the record is in the ``task_state_store``.
    """

    key: Key
    dag_id: str
    run_id: str
    run_state: str | None
    run_started: datetime | None
    state: str | None
    try_number: int
    max_tries: int | None
    recorded_at: datetime | None = None
    settled_try: int | None = None
    stored: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether no operation of its latest try needs a cancel."""
        return self.settled_try is not None and self.settled_try >= self.try_number

    @property
    def name(self) -> str:
        """The task instance and its run, as a text."""
        index = "" if self.key.map_index < 0 else f"[{self.key.map_index}]"
        return f"{self.dag_id}.{self.key.task_id}{index} of {self.run_id}"


@dataclass(frozen=True)
class Seen:
    """The results of one check.

    :param active: The numbers of the active runs.
    :param ended: The numbers of the other runs that the check has read.
    :param instances: Task instances that have recorded operations, some of which may need a cancel.
    """

    active: frozenset[int]
    ended: frozenset[int]
    instances: tuple[Instance, ...]


class Database:
    """Airflow's database, as the collector reads it.

    :param connect: Opens a SQLAlchemy connection.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._tables = Tables()
        self._run = self._tables.run
        self._connection: Any = None
        #: The number of statements sent so far.
        self.statements = 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Send all statements in this context over one connection."""
        with self._connect() as connection:
            self._connection = connection
            try:
                yield
            finally:
                self._connection = None

    def _ask(self, statement: Any) -> list[Any]:
        self.statements += 1
        if self._connection is not None:
            return list(self._connection.execute(statement))
        with self._connect() as connection:
            return list(connection.execute(statement))

    def active_runs(self, newer_than: int) -> dict[int, bool]:
        """Return the numbers of the runs that are active, or newer than a run, each with whether it is active.

        :param newer_than: The number of the run.
        """
        from sqlalchemy import or_, select

        run = self._run.c
        statement = select(run.id, run.state).where(or_(run.state.in_(ACTIVE_RUN_STATES), run.id > newer_than))
        return {row.id: word_of(row.state) in ACTIVE_RUN_STATES for row in self._ask(statement)}

    def look(self, newer_than: int, named: Collection[int] = ()) -> Seen:
        """Read the active runs, the runs that are newer than a run, and the named runs."""
        from sqlalchemy import or_

        run = self._run.c
        return _together(self._look(or_(run.state.in_(ACTIVE_RUN_STATES), run.id > newer_than)), self.look_at(named))

    def look_at(self, runs: Collection[int]) -> Seen:
        """Read only the named runs."""
        seen = Seen(frozenset(), frozenset(), ())
        for some in portions(sorted(runs)):
            seen = _together(seen, self._look(self._run.c.id.in_(some)))
        return seen

    def _look(self, scope: Any) -> Seen:
        rows = [row for statement in self._tables.of_look(scope) for row in self._ask(statement)]
        states = {row.run: row.run_state for row in rows}
        active = frozenset(run for run, state in states.items() if state in ACTIVE_RUN_STATES)
        found = map(self._instance, reversed(rows))
        instances = {one.key: one for one in found if one is not None and not one.is_settled}
        return Seen(active, frozenset(states) - active, tuple(instances.values()))

    def _instance(self, row: Any) -> Instance | None:
        if row.task_id is None:  # A run without records.
            return None
        return Instance(
            key_of(row),
            row.dag_id,
            row.run_id,
            word_of(row.run_state),
            row.run_started,
            word_of(row.state),
            row.try_number or 0,
            row.max_tries,
            row.timestamp,
            _settled_try(row.settled),
            bool(row.stored),
        )

    def again(self, keys: Iterable[Key]) -> dict[Key, Instance]:
        """Return task instances that the last read did not find, if they still exist."""
        from sqlalchemy import and_

        wanted: defaultdict[int, set[Key]] = defaultdict(set)
        for key in keys:
            wanted[key.run].add(key)
        found: dict[Key, Instance] = {}
        for runs in portions(sorted(wanted)):
            tasks = sorted({key.task_id for run_id in runs for key in wanted[run_id]})
            for ids in portions(tasks):
                scope = and_(self._run.c.id.in_(runs), self._tables.task.c.task_id.in_(ids))
                for row in self._ask(self._tables.of_instances(scope)):
                    one = self._instance(row)
                    if one is not None and one.key in wanted[one.key.run]:
                        found[one.key] = one
        return found

    def records(self, instances: Iterable[Instance]) -> dict[Key, list[Record] | Exception]:
        """Return all parts of task instances' records; an exception in place of a record that cannot be read."""
        stored = {one.key: one.stored for one in instances}
        found: dict[Key, list[Record] | Exception] = {}
        for table in reversed(self._tables.records):
            keys = [key for key, is_stored in stored.items() if is_stored == table.stored]
            lasts = {key_of(row): row for row in rows_of(self._ask, table, keys, [OPERATIONS_KEY])}
            found |= read_records(self._ask, table, lasts)
        return {key: or_error(_checked, found.get(key, []), key) for key in stored}

    def was_ended_by_a_user(self, one: Instance) -> bool:
        """Whether a user marked a failed task instance or its run, or it had no process, by the audit log's last event.

        Airflow logs each state that a user sets and, from 3.2 on, each state that a task's process reports.
        """
        if one.recorded_at is None:
            return False
        key = one.key
        instance = {"dag_id": one.dag_id, "run_id": one.run_id, "task_id": key.task_id, "map_index": key.map_index}
        statements = self._tables.of_events(instance, one.recorded_at, {"running", *WAITS_WITHOUT_A_PROCESS})
        rows = [row for statement in statements for row in self._ask(statement)]
        return bool(rows) and max(rows, key=lambda row: row.id).event != "running"

    def newest_run(self) -> int:
        """Return the number of the newest run; 0 if there is none."""
        from sqlalchemy import func, select

        [row] = self._ask(select(func.max(self._run.c.id)))
        return row[0] or 0

    def changed_runs(self, since: datetime, below: int | None = None, most: int = AT_A_TIME) -> list[int]:
        """Return the numbers of the runs that have changed since a time, the newest first.

        This reads the whole table of runs, so call it seldom.

        :param below: Return only runs with a smaller number.
        """
        from sqlalchemy import select

        run = self._run.c
        statement = select(run.id).where(run.updated_at >= since)
        if below is not None:
            statement = statement.where(run.id < below)
        return [row[0] for row in self._ask(statement.order_by(run.id.desc()).limit(most))]


def _together(one: Seen, other: Seen) -> Seen:
    return Seen(one.active | other.active, one.ended | other.ended, (*one.instances, *other.instances))


def _checked(read: list[Record] | Exception, key: Key) -> list[Record]:
    """Return the parts of a record.

    :raises ValueError: If another task than that of the key has written it.
    """
    if isinstance(read, Exception):
        raise read
    # In a loop of Airflow 3.4, the index is the number of the repetition, and the task itself records -1.
    indexes = {key.map_index} if key.region is None else {key.map_index, -1}
    if any(part.task_id != key.task_id or part.map_index not in indexes for part in read):
        raise ValueError("Another task has written this.")
    return read


def _settled_try(value: Any) -> int | None:
    if value is None:
        return None
    with suppress(Exception):  # If the backend raises, the collector asks Earth Engine.
        return settled_try(xcom_backend().deserialize_value(SimpleNamespace(key=SETTLED_KEY, value=value)))
    return None
