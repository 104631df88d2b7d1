"""SQL statements with which the collector reads Airflow's tables.

The statements read XComs by a unique key (the task instance's and the XCom's), never by a value or a pattern. They
begin with the runs and use outer joins, so that no query planner begins with all XComs of a key.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.tracking.notes import SETTLED_KEY
from airflow_ee_provider.tracking.record import OPERATIONS_KEY
from airflow_ee_provider.tracking.record_tables import is_latest, is_of_run, is_of_task, key_columns, record_tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

#: What Airflow's audit log has when a user sets the state of a task instance, or marks a run failed: the event, and a
#: part of the request that it keeps. The prefixes are of Airflow 2's REST API; `failed` and `dagrun_failed`, of its UI.
MARKS = {
    "patch_task_instance": '"new_state"',
    "api.patch_task_instance": '"new_state"',
    "ui.patch_task_instance": '"new_state"',
    "failed": '"confirmed"',
}
RUN_MARKS = {
    "patch_dag_run": '"state": "failed"',
    "api.update_dag_run_state": '"state": "failed"',
    "ui.update_dag_run_state": '"state": "failed"',
    "dagrun_failed": '"confirmed": "true"',
}


class Tables:
    """Airflow's tables of runs, task instances, XComs and, from 3.3 on, of the ``task_state_store``.

    Each statement except `of_events` returns the same columns. A ``scope`` is a condition on runs or task instances.
    """

    def __init__(self) -> None:
        from airflow.models import Log

        self.log: Any = Log.__table__
        self.records = record_tables()
        self.run, self.task = self.records[0].run, self.records[0].task
        self._xcoms = [one.table for one in self.records if not one.stored]

    def of_look(self, scope: Any) -> list[Any]:
        """Return the statements of a check, one for each table of records, in the order of the tables."""
        return [(self._of_stored if one.stored else self._of_xcoms)(one.table, scope) for one in self.records]

    def _of_xcoms(self, table: Any, scope: Any) -> Any:
        """Return the statement with a row for each record that is not settled, and for each run without one."""
        from sqlalchemy import and_, or_, select

        run, task, record = self.run, self.task, table.alias("record")
        run_id = record.c.get("dag_run_id")
        joined, settled = self._with(record.join(task, is_of_task(record.c, task.c)), SETTLED_KEY, run_id)
        is_open = or_(settled.key.is_(None), task.c.try_number > 1)  # `Instance.is_settled` checks the try.
        is_in_run = [is_of_run(task.c, run.c)] if run_id is None else [run_id == run.c.id, *is_latest(task.c)]
        is_record = and_(*is_in_run, record.c.key == OPERATIONS_KEY, is_open)
        columns = self._columns(record.c.timestamp, settled.value)
        return select(*columns).select_from(run.outerjoin(joined, is_record)).where(scope)

    def _of_stored(self, table: Any, scope: Any) -> Any:
        """Return the statement for the records that only the ``task_state_store`` has: those of earlier tries."""
        from sqlalchemy import and_, or_, select

        run, task, store = self.run, self.task, table.alias("stored")
        joined = run.join(store, and_(store.c.dag_run_id == run.c.id, store.c.key == OPERATIONS_KEY))
        joined = joined.join(task, and_(is_of_run(task.c, run.c), is_of_task(store.c, task.c, run.c.id)))
        joined, record = self._with(joined, OPERATIONS_KEY, run.c.id)
        joined, settled = self._with(joined, SETTLED_KEY, run.c.id)
        is_open = and_(record.key.is_(None), or_(settled.key.is_(None), task.c.try_number > 1))
        columns = self._columns(store.c.updated_at, settled.value, stored=True)
        return select(*columns).select_from(joined).where(and_(scope, is_open))

    def of_instances(self, scope: Any) -> Any:
        """Return the statement for task instances, whether or not they have a record."""
        from sqlalchemy import select

        joined = self.run.join(self.task, is_of_run(self.task.c, self.run.c))
        joined, record = self._with(joined, OPERATIONS_KEY, self.run.c.id)
        joined, settled = self._with(joined, SETTLED_KEY, self.run.c.id)
        return select(*self._columns(record.timestamp, settled.value)).select_from(joined).where(scope)

    def _with(self, joined: Any, key: str, run_id: Any) -> tuple[Any, Any]:
        """Outer-join the XComs with a key; return the join and the XComs' columns."""
        from sqlalchemy import and_, func

        tables = [table.alias() for table in self._xcoms]
        for table in tables:
            joined = joined.outerjoin(table, and_(is_of_task(table.c, self.task.c, run_id), table.c.key == key))
        columns = {name: [table.c[name] for table in tables] for name in ("key", "value", "timestamp")}
        firsts = {name: func.coalesce(*of) if len(of) > 1 else of[0] for name, of in columns.items()}
        return joined, SimpleNamespace(**firsts)

    def of_events(self, instance: dict[str, Any], since: datetime, states: Iterable[str]) -> list[Any]:
        """Return the statements for the last events in the audit log: of a task instance, and of its run.

        They are one of some states, or a user's mark.

        :param instance: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
        :param states: The states. A task's process logs its states from Airflow 3.2 on.
        """
        from sqlalchemy import and_, or_, select

        def is_one_of(marks: dict[str, str]) -> Any:
            return or_(*(and_(log.event == event, log.extra.contains(text)) for event, text in marks.items()))

        log, map_index = self.log.c, instance["map_index"]
        is_state = and_(log.event.in_(sorted(states)), log.map_index == map_index)
        is_event = or_(is_state, is_one_of(MARKS)) if map_index < 0 else is_state  # A mark has no map index.
        of_task = and_(log.task_id == instance["task_id"], is_event)
        of_run = and_(log.task_id.is_(None), is_one_of(RUN_MARKS))
        is_its_run = [log.dag_id == instance["dag_id"], log.run_id == instance["run_id"], log.dttm >= since]
        events = select(log.id, log.event).where(*is_its_run).order_by(log.id.desc()).limit(1)
        return [events.where(which) for which in (of_task, of_run)]

    def _columns(self, timestamp: Any, settled: Any, *, stored: bool = False) -> list[Any]:
        from sqlalchemy import literal

        run, task = self.run.c, self.task.c
        return [
            *key_columns(run, task),
            run.dag_id,
            run.run_id,
            run.state.label("run_state"),
            run.start_date.label("run_started"),
            task.state,
            task.try_number,
            task.max_tries,
            timestamp.label("timestamp"),
            settled.label("settled"),
            literal(stored).label("stored"),
        ]
