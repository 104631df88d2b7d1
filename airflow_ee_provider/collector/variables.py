"""Delete the Variables in which tasks store data for their next try, before Airflow 3.3, once no try needs them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, STARTED_KEY, Record
from airflow_ee_provider.tracking.record_tables import is_of_run, key_columns, portions
from airflow_ee_provider.tracking.retry_memory import PREFIX, prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: An operation's name, with the account that reads it; None for the default connection's.
    Operation = tuple[dict[str, Any] | None, str]

#: The key of a Variable in which a task stores data for its next try.
_KEY = re.compile(
    rf"(?P<prefix>{re.escape(PREFIX)}[0-9a-f]{{32}}\.)(?:{re.escape(OPERATIONS_KEY)}(?:_\d+)?|{STARTED_KEY})"
)

#: How many Variables one statement reads or deletes.
PORTION = 500


def delete_unneeded(engine: Any, running: Callable[[Iterable[Operation]], set[str]]) -> int:
    """Delete the Variables of tasks that have ended or no longer exist; return their number.

    Those of operations that still run are kept: if a user clears the task, its next try cancels them before it starts
    others. If there are no Variables, it sends only one statement.

    :param running: Returns which of some operations may still run.
    """
    from airflow.models.variable import Variable
    from sqlalchemy import delete, select

    variable: Any = Variable.__table__
    with engine.connect() as connection:
        rows = connection.execute(select(variable.c.key).where(variable.c.key.like(f"{PREFIX}%")))
        found = {row.key: match["prefix"] for row in rows if (match := _KEY.fullmatch(row.key))}
        active = _prefixes_of_active_tasks(connection) if found else set[str]()
    if not (ended := {key: prefix for key, prefix in found.items() if prefix not in active}):
        return 0
    operations = _operations(engine, ended)
    run = running([one for ones in operations.values() for one in ones])
    kept = {prefix for prefix, ones in operations.items() if any(name in run for _, name in ones)}
    with engine.begin() as connection:
        # Again, since a task can have begun in the meantime.
        kept |= _prefixes_of_active_tasks(connection)
        unneeded = sorted(key for key, prefix in ended.items() if prefix not in kept)
        for some in portions(unneeded, PORTION):
            connection.execute(delete(variable).where(variable.c.key.in_(some)))
    return len(unneeded)


def _prefixes_of_active_tasks(connection: Any) -> set[str]:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import and_, or_, select

    task: Any = TaskInstance.__table__
    run: Any = DagRun.__table__
    _, task_id, map_index, _ = key_columns(run.c, task.c)
    names = (task.c.dag_id, task.c.run_id, task_id, map_index)
    is_active = and_(run.c.state.in_(ACTIVE_RUN_STATES), or_(task.c.state.is_(None), task.c.state.in_(ACTIVE_STATES)))
    rows = connection.execute(select(*names).select_from(run.join(task, is_of_run(task.c, run.c))).where(is_active))
    return {prefix_of(*row) for row in rows}


def _operations(engine: Any, prefixes: dict[str, str]) -> dict[str, list[Operation]]:
    """Return the operations in Variables by the Variables' prefix.

    :param prefixes: The prefix of each Variable's key.
    """
    from airflow.models.variable import Variable
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    found: defaultdict[str, list[Operation]] = defaultdict(list)
    of_operations = sorted(key for key in prefixes if not key.endswith(STARTED_KEY))
    with Session(bind=engine) as session:
        for some in portions(of_operations, PORTION):
            for one in session.scalars(select(Variable).where(Variable.key.in_(some))):
                with suppress(Exception):  # Users may write any value. What is no record is deleted.
                    part = Record.from_json(json.loads(one.get_val()))
                    found[prefixes[one.key]] += [(part.account, name) for name in part.operation_names]
    return found
