"""The statements that read records of operations in Airflow's database.

They name runs, and read records by their primary key (run, task, map index, key): so they cost what was active since
a time, not what the tables have, with any planner. The key is never asked for by a pattern: no index serves that.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.stored_values import task_store_table, xcom_backend, xcom_table
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import MOST_PARTS, OPERATIONS_KEY, part_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

T = TypeVar("T")

#: The most runs or task instances in one SQL statement: databases have limits.
AT_A_TIME = 1000

#: For how long after its run's end a task can still record.
LINGER = timedelta(minutes=10)

#: What names a task instance in a record.
_INSTANCE = ("dag_run_id", "task_id", "map_index")

#: An operation's id in a record's JSON, which may be JSON within JSON; and that all of the record is in there.
_ID, _IS_WHOLE = re.compile(r'/operations/([^"\\]+)'), re.compile(r'"parts_before\\?": ?0\b')


class Key(NamedTuple):
    """What names a task instance in a record: the DAG run by its number."""

    run: int
    task_id: str
    map_index: int


@dataclass(frozen=True)
class RecordTable:
    """A table of records: XComs, or what tasks have stored.

    :param table: SQLAlchemy's.
    :param changed: the name of the column for when a record was written last.
    :param read: returns the value of a row.
    """

    table: Any
    changed: str
    read: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """The table's name."""
        return str(self.table.name)

    def last_parts(self, runs: Collection[int]) -> Any:
        """Return the statement for the last parts of all records of some runs, each with its task instance."""
        from airflow.models.dag import DagModel
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import and_, select

        run, task, dag = (model.__table__ for model in (DagRun, TaskInstance, DagModel))
        record = self.table
        of_run = and_(task.c.dag_id == run.c.dag_id, task.c.run_id == run.c.run_id)
        of_task = and_(record.c.task_id == task.c.task_id, record.c.map_index == task.c.map_index)
        joined = run.join(task, of_run).join(
            record, and_(record.c.dag_run_id == run.c.id, of_task, record.c.key == OPERATIONS_KEY)
        )
        columns = [
            *self._columns(),
            record.c[self.changed].label("changed"),
            task.c.dag_id,
            task.c.run_id,
            task.c.state.label("task_state"),
            task.c.try_number,
            run.c.state.label("run_state"),
            dag.c.owners,
            *(run.c[name] for name in ("triggering_user_name",) if name in run.c),
        ]
        joined = joined.outerjoin(dag, dag.c.dag_id == run.c.dag_id)
        return select(*columns).select_from(joined).where(record.c.dag_run_id.in_(runs))

    def parts(self, instances: Collection[Key], most: int) -> Any:
        """Return the statement for the parts that come before the last one, of these task instances and some others.

        :param most: how many one of them has.
        """
        from sqlalchemy import select

        of = self.table.c
        keys = [part_key(number) for number in range(1, most + 1)]
        runs, tasks = sorted({one.run for one in instances}), sorted({one.task_id for one in instances})
        return select(*self._columns()).where(of.dag_run_id.in_(runs), of.task_id.in_(tasks), of.key.in_(keys))

    def _columns(self) -> list[Any]:
        """Return the columns of a record; its value as a text, which is parsed only where it has to be."""
        from sqlalchemy import Text, cast

        of = self.table.c
        value = cast(of.value, Text) if AIRFLOW_3 else of.value
        return [*(of[name] for name in (*_INSTANCE, "key")), value.label("value")]


def runs_since(since: datetime) -> Any:
    """Return the statement for the numbers of the runs in which a task can have recorded something since then."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import or_, select

    run = DagRun.__table__.c
    return select(run.id).where(or_(run.state.in_(ACTIVE_RUN_STATES), run.updated_at >= since - LINGER))


def record_tables() -> list[RecordTable]:
    """Return the tables that have records; from Airflow 3.3 on what tasks have stored outlives a try."""
    tables = [RecordTable(xcom_table(), "timestamp", _read_xcom)]
    if (store := task_store_table()) is not None:
        tables.append(RecordTable(store, "updated_at", lambda row: json.loads(row.value)))
    return tables


def _read_xcom(row: Any) -> Any:
    """Return an XCom's value, through the backend that is configured."""
    value = json.loads(row.value or "null") if AIRFLOW_3 else row.value
    return xcom_backend().deserialize_value(SimpleNamespace(key=row.key, value=value))


def key_of(row: Any) -> Key:
    """Return what names the task instance of a record."""
    return Key(row.dag_run_id, row.task_id, row.map_index)


def may_name(value: Any, ids: Collection[str]) -> bool:
    """Whether a record may name one of these operations, as far as its text shows: reading each takes long.

    A backend may have written anything in place of a record: then it is read.
    """
    text = bytes(value).decode(errors="replace") if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
    is_plain = text[:1] in ("{", '"') and "operation_names" in text and _IS_WHOLE.search(text)
    return not is_plain or any(one in ids for one in _ID.findall(text))


def parts_before(value: Any) -> int:
    """Return how many parts come before a record's last one; 0 if that cannot be read."""
    # Not by `Record.from_json`, which takes as long as all else that is done with a record: it is read once.
    number = value.get("parts_before") if isinstance(value, dict) else None
    return number if isinstance(number, int) and 0 <= number <= MOST_PARTS else 0


def portions(things: Sequence[T], size: int = AT_A_TIME) -> Iterator[Sequence[T]]:
    """Yield some of the things at a time."""
    for begin in range(0, len(things), size):
        yield things[begin : begin + size]
