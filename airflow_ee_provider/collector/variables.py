"""Deletes the Variables in which tasks remember their operations before Airflow 3.3, once their task has ended."""

from __future__ import annotations

import re
from typing import Any

from airflow_ee_provider.base.task_states import ACTIVE_STATES
from airflow_ee_provider.tracking.holders import ACTIVE_RUN_STATES
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, STARTED_KEY
from airflow_ee_provider.tracking.retry_memory import PREFIX, prefix_of

_KEY = re.compile(
    rf"(?P<prefix>{re.escape(PREFIX)}[0-9a-f]{{32}}\.)(?:{re.escape(OPERATIONS_KEY)}(?:_\d+)?|{STARTED_KEY})"
)

#: How many Variables one statement deletes.
PORTION = 500


def delete_unneeded(engine: Any) -> int:
    """Delete the Variables of tasks that have ended, or are gone; return how many.

    They are listed first: those of a task that begins meanwhile stay. Where there are none, that is one statement.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from sqlalchemy import and_, delete, or_, select

    variable: Any = Variable.__table__
    task: Any = TaskInstance.__table__
    run: Any = DagRun.__table__
    with engine.begin() as connection:
        rows = connection.execute(select(variable.c.key).where(variable.c.key.like(f"{PREFIX}%")))
        found = {row.key: match["prefix"] for row in rows if (match := _KEY.fullmatch(row.key))}
        if not found:
            return 0
        names = (task.c.dag_id, task.c.run_id, task.c.task_id, task.c.map_index)
        of_run = and_(run.c.dag_id == task.c.dag_id, run.c.run_id == task.c.run_id)
        is_active = and_(
            run.c.state.in_(ACTIVE_RUN_STATES), or_(task.c.state.is_(None), task.c.state.in_(ACTIVE_STATES))
        )
        rows = connection.execute(select(*names).select_from(run.join(task, of_run)).where(is_active))
        needed = {prefix_of(*row) for row in rows}
        unneeded = sorted(key for key, prefix in found.items() if prefix not in needed)
        for begin in range(0, len(unneeded), PORTION):
            connection.execute(delete(variable).where(variable.c.key.in_(unneeded[begin : begin + PORTION])))
    return len(unneeded)
