"""SQL statements that read records of operations from Airflow's database, for all versions of Airflow.

The statements select runs, and read their records by a unique key (the task instance's and the record's). So their cost
depends on the recently active runs, not on the size of the tables, with any query planner. They never select keys by a
pattern, since no index supports that.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.stored_values import earlier_xcoms, or_error, task_store_table, xcom_backend, xcom_table
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import MOST_PARTS, OPERATIONS_KEY, Record, part_key, read_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

T = TypeVar("T")

#: The most runs or task instances in one SQL statement: databases have limits.
AT_A_TIME = 1000

#: How many parts that come before the last one are read at a time.
PARTS = 32

#: How long after the end of its run a task can still record operations.
LINGER = timedelta(minutes=10)

#: The columns that identify a task instance in a run. Airflow 3.4 adds the columns of regions.
_IN_RUN = ("task_id", "map_index", "region_id", "region_index")

#: Patterns for an operation's id in a record's JSON, which may be JSON within JSON, and for a record of one part.
_ID, _IS_WHOLE = re.compile(r'/operations/([^"\\]+)'), re.compile(r'"parts_before\\?": ?0\b')


class Key(NamedTuple):
    """The key of a task instance.

    :param run: The number of the DAG run.
    :param map_index: The map index; from Airflow 3.4 on, the index in a region.
    :param region: The part of the run that is mapped or repeated; None before Airflow 3.4.
    """

    run: int
    task_id: str
    map_index: int
    region: Any = None


def key_of(row: Any) -> Key:
    """Return the key of a row's task instance. The statement must select `key_columns`."""
    return Key(row.run, row.task_id, row.map_index, row.region)


def key_columns(run: Any, task: Any) -> list[Any]:
    """Return the columns of a task instance's `Key`."""
    from sqlalchemy import null

    index = task.region_index if "region_index" in task else task.map_index
    region = task.region_id if "region_id" in task else null()
    return [run.id.label("run"), task.task_id, index.label("map_index"), region.label("region")]


def is_latest(task: Any) -> list[Any]:
    """Return the condition for a task instance's latest try, if Airflow has a row for each try: from 3.4 on."""
    return [task.working_set.is_(True)] if "working_set" in task else []


def is_of_run(task: Any, run: Any) -> Any:
    """Return the condition that a task instance belongs to a run."""
    from sqlalchemy import and_

    return and_(task.dag_id == run.dag_id, task.run_id == run.run_id, *is_latest(task))


def is_of_task(record: Any, task: Any, run_id: Any = None) -> Any:
    """Return the condition that a record belongs to a task instance.

    :param run_id: The column with the run's number, if the join has one. XComs are then read by their primary key. With
        the DAG id and the run id in the condition, a query planner could begin with another index. Without the column,
        the join begins with the record, and the task instance is read by its unique key.
    """
    from sqlalchemy import and_

    if "task_instance_id" in record:
        return record.task_instance_id == task.id
    names = [name for name in _IN_RUN if name in record]
    names += () if run_id is not None else ("dag_id", "run_id")
    in_run = () if run_id is None else (record.dag_run_id == run_id,)
    return and_(*in_run, *(record[name] == task[name] for name in names))


@dataclass(frozen=True)
class RecordTable:
    """A table of records.

    :param table: The SQLAlchemy table, of XComs or of the ``task_state_store``.
    :param stored: Whether it is the table of the ``task_state_store``.
    """

    table: Any
    run: Any
    task: Any
    stored: bool = False

    @property
    def name(self) -> str:
        """The table's name."""
        return str(self.table.name)

    def read(self, row: Any) -> Any:
        """Return the value of a row. The configured XCom backend deserializes an XCom's value."""
        value = json.loads(row.value or "null") if AIRFLOW_3 else row.value
        return value if self.stored else xcom_backend().deserialize_value(SimpleNamespace(key=row.key, value=value))

    def last_parts(self, runs: Collection[int]) -> Any:
        """Return the statement for the last parts of all records of some runs, each with its task instance."""
        from airflow.models.dag import DagModel

        run, task, dag = self.run.c, self.task.c, DagModel.__table__.c
        columns = [
            self.table.c["updated_at" if self.stored else "timestamp"].label("changed"),
            task.dag_id,
            task.run_id,
            task.state.label("task_state"),
            task.try_number,
            run.state.label("run_state"),
            dag.owners,
            *(run[name] for name in ("triggering_user_name",) if name in run),
        ]
        joined = self._joined().outerjoin(DagModel.__table__, dag.dag_id == run.dag_id)
        return self._select(joined, runs, [OPERATIONS_KEY], *columns)

    def parts(self, instances: Collection[Key], keys: Sequence[str]) -> Any:
        """Return the statement for the rows of these task instances with these keys; it also returns rows of others."""
        task_id = self.table.c.get("task_id", self.task.c.task_id)
        runs, tasks = sorted({one.run for one in instances}), sorted({one.task_id for one in instances})
        return self._select(self._joined(), runs, keys).where(task_id.in_(tasks))

    def _joined(self) -> Any:
        run, task, record = self.run, self.task, self.table
        return run.join(task, is_of_run(task.c, run.c)).join(record, is_of_task(record.c, task.c, run.c.id))

    def _select(self, joined: Any, runs: Collection[int], keys: Sequence[str], *columns: Any) -> Any:
        """Return a statement that selects the key and the value. The value is not parsed: few values are needed."""
        from sqlalchemy import Text, cast, select

        of = self.table.c
        value = cast(of.value, Text) if AIRFLOW_3 else of.value
        names = [*key_columns(self.run.c, self.task.c), of.key, value.label("value")]
        run_id = of.get("dag_run_id", self.run.c.id)
        return select(*names, *columns).select_from(joined).where(run_id.in_(runs), of.key.in_(keys))


def runs_since(since: datetime) -> Any:
    """Return the statement for the numbers of the runs in which a task can have recorded operations since a time."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import or_, select

    run = DagRun.__table__.c
    return select(run.id).where(or_(run.state.in_(ACTIVE_RUN_STATES), run.updated_at >= since - LINGER))


def record_tables() -> list[RecordTable]:
    """Return the tables that have records. From Airflow 3.3 on, the ``task_state_store`` keeps records after a try.

    If two tables have a task instance's record, the record in the first of them is later.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    tables = ((xcom_table(), False), (earlier_xcoms(), False), (task_store_table(), True))
    run, task = DagRun.__table__, TaskInstance.__table__
    return [RecordTable(table, run, task, stored) for table, stored in tables if table is not None]


def read_records(
    ask: Callable[[Any], Iterable[Any]], table: RecordTable, lasts: Mapping[Key, Any]
) -> dict[Key, list[Record] | Exception]:
    """Return all parts of records; an exception in place of a record that cannot be read.

    :param ask: Executes a statement.
    :param lasts: The rows of the records' last parts.
    """
    values: dict[Key, dict[str, Any]] = {key: {OPERATIONS_KEY: or_error(table.read, row)} for key, row in lasts.items()}
    before = {key: parts_before(one[OPERATIONS_KEY]) for key, one in values.items()}
    for first in range(1, max(before.values(), default=0) + 1, PARTS):
        keys = [part_key(number) for number in range(first, first + PARTS)]
        for row in rows_of(ask, table, [key for key, number in before.items() if number >= first], keys):
            values[key_of(row)][row.key] = or_error(table.read, row)
    return {key: or_error(read_parts, one.get) for key, one in values.items()}


def rows_of(
    ask: Callable[[Any], Iterable[Any]], table: RecordTable, instances: Sequence[Key], keys: Sequence[str]
) -> Iterator[Any]:
    """Yield the rows of task instances with some keys."""
    wanted = set(instances)
    for some in portions(instances):
        yield from (row for row in ask(table.parts(some, keys)) if key_of(row) in wanted)


def may_name(value: Any, ids: Collection[str]) -> bool:
    """Whether a record may name one of these operations, by its text: to parse all records would take long.

    An XCom backend may store other data in place of a record. Such a record has to be read.
    """
    text = bytes(value).decode(errors="replace") if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
    is_plain = text[:1] in ("{", '"') and "operation_names" in text and _IS_WHOLE.search(text)
    return not is_plain or any(one in ids for one in _ID.findall(text))


def parts_before(value: Any) -> int:
    """Return the number of parts before a record's last one; 0 if it cannot be read."""
    # `Record.from_json` takes as long as all other work on a record, so it runs only once, in `read_parts`.
    number = value.get("parts_before") if isinstance(value, dict) else None
    return number if isinstance(number, int) and 0 <= number <= MOST_PARTS else 0


def portions(things: Sequence[T], size: int = AT_A_TIME) -> Iterator[Sequence[T]]:
    """Yield a sequence in portions."""
    for begin in range(0, len(things), size):
        yield things[begin : begin + size]
