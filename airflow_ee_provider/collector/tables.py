"""The statements with which the collector reads Airflow's tables.

They read XComs by their primary key (run, task, map index, key), never by their values or by a pattern; they begin with
the runs, by outer joins, so that no planner begins with all XComs of a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.stored_values import task_store_table, xcom_table
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, SETTLED_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

#: The event in Airflow's audit log where a user has given a task instance a state.
MARKED = "patch_task_instance"


class Tables:
    """Airflow's tables of runs, task instances, XComs and, from 3.3 on, of what tasks have stored.

    Each statement returns the same columns; a ``scope`` is a condition on the runs.
    """

    def __init__(self) -> None:
        from airflow.models import Log
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance

        self.xcom: Any = xcom_table()
        self.run: Any = DagRun.__table__
        self.task: Any = TaskInstance.__table__
        self.log: Any = Log.__table__
        self.store: Any = task_store_table()
        self._record, self._settled = self.xcom.alias("record"), self.xcom.alias("settled")

    def of_records(self, scope: Any) -> Any:
        """Return the statement of the look: a row for each run, and for each record that its task has not settled."""
        from sqlalchemy import and_, or_, select

        run, task, record, settled = self.run, self.task, self._record, self._settled
        recorded = record.join(task, _same_task(task.c, record.c)).outerjoin(
            settled, and_(_same_instance(settled.c, record.c), settled.c.key == SETTLED_KEY)
        )
        is_open = or_(settled.c.key.is_(None), task.c.try_number > 1)  # Of which try it is, its value says.
        joined = run.outerjoin(recorded, and_(record.c.dag_run_id == run.c.id, record.c.key == OPERATIONS_KEY, is_open))
        columns = self._columns(record.c, record.c.timestamp, settled.c.value)
        return select(*columns).select_from(joined).where(scope)

    def of_stored(self, scope: Any) -> Any:
        """Return the statement about what only Airflow's task_state_store has: the record of an earlier try."""
        from sqlalchemy import and_, or_, select

        run, task, record, settled, store = self.run, self.task, self._record, self._settled, self.store.alias("stored")
        is_of_run = and_(task.c.dag_id == run.c.dag_id, task.c.run_id == run.c.run_id)
        is_of_task = and_(task.c.task_id == store.c.task_id, task.c.map_index == store.c.map_index)
        joined = run.join(store, and_(store.c.dag_run_id == run.c.id, store.c.key == OPERATIONS_KEY))
        joined = joined.join(task, and_(is_of_run, is_of_task))
        for xcom, key in ((record, OPERATIONS_KEY), (settled, SETTLED_KEY)):
            joined = joined.outerjoin(xcom, and_(_same_instance(xcom.c, store.c), xcom.c.key == key))
        is_open = and_(record.c.key.is_(None), or_(settled.c.key.is_(None), task.c.try_number > 1))
        columns = self._columns(store.c, store.c.updated_at.label("timestamp"), settled.c.value, stored=True)
        return select(*columns).select_from(joined).where(and_(scope, is_open))

    def of_instances(self, scope: Any) -> Any:
        """Return the statement about task instances, whether or not they have a record."""
        from sqlalchemy import and_, select

        run, task, record, settled = self.run, self.task, self._record, self._settled
        joined = run.join(task, and_(task.c.dag_id == run.c.dag_id, task.c.run_id == run.c.run_id))
        for xcom, key in ((record, OPERATIONS_KEY), (settled, SETTLED_KEY)):
            is_of_task = and_(xcom.c.task_id == task.c.task_id, xcom.c.map_index == task.c.map_index)
            joined = joined.outerjoin(xcom, and_(xcom.c.dag_run_id == run.c.id, is_of_task, xcom.c.key == key))
        return select(*self._columns(task.c, record.c.timestamp, settled.c.value)).select_from(joined).where(scope)

    def of_events(self, instance: dict[str, Any], since: datetime, states: Iterable[str]) -> Any:
        """Return the statement about the last event of a task instance in the audit log: a state, or a user's mark.

        :param instance: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
        :param states: those that a task's process logs, from Airflow 3.2 on.
        """
        from sqlalchemy import and_, or_, select

        log, map_index = self.log.c, instance["map_index"]
        is_its_own = [getattr(log, name) == instance[name] for name in ("dag_id", "run_id", "task_id")]
        is_state = and_(log.event.in_(sorted(states)), log.map_index == map_index)
        is_mark = and_(log.event == MARKED, log.extra.contains("new_state"))  # It does not say which map index.
        is_event = or_(is_state, is_mark) if map_index < 0 else is_state
        return select(log.event).where(*is_its_own, log.dttm >= since, is_event).order_by(log.id.desc()).limit(1)

    def _columns(self, record: Any, timestamp: Any, settled: Any, *, stored: bool = False) -> list[Any]:
        from sqlalchemy import literal

        run, task = self.run.c, self.task.c
        return [
            run.id.label("run"),
            run.dag_id,
            run.run_id,
            run.state.label("run_state"),
            run.start_date.label("run_started"),
            record.task_id,
            record.map_index,
            task.state,
            task.try_number,
            task.max_tries,
            timestamp,
            settled.label("settled"),
            literal(stored).label("stored"),
        ]


def _same_instance(one: Any, other: Any) -> Any:
    from sqlalchemy import and_

    return and_(*(getattr(one, name) == getattr(other, name) for name in ("dag_run_id", "task_id", "map_index")))


def _same_task(task: Any, record: Any) -> Any:
    from sqlalchemy import and_

    names = ("dag_id", "run_id", "task_id", "map_index")
    return and_(*(getattr(task, name) == getattr(record, name) for name in names))
