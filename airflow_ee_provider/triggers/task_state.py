"""Asking Airflow before 3.3 whether a trigger's own task still waits for it, in the triggerer."""

from __future__ import annotations

from typing import Any

from airflow_ee_provider.records import TRY_KEY


async def still_waits(ti: Any) -> bool:
    """Whether a task instance is deferred, and in the same try as it was when it was deferred.

    After a clear, the next try can be deferred again before the triggerer even cancels the trigger of the last one.
    """
    from airflow import __version__ as airflow_version
    from asgiref.sync import sync_to_async

    look_up = _from_supervisor if int(airflow_version.split(".", 1)[0]) >= 3 else _from_database
    state, try_number = await sync_to_async(look_up)(ti)
    return state == "deferred" and try_number in (ti.try_number, None)


def _from_supervisor(ti: Any) -> tuple[str | None, int | None]:
    """Airflow 3 tells a trigger a task's state, but not its try: the task itself has written that down."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    by_task = states.get(ti.run_id, {})
    state: str | None = by_task.get(f"{ti.task_id}_{ti.map_index}", by_task.get(ti.task_id))
    try_number: int | None = BaseXCom.get_one(
        key=TRY_KEY, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
    )
    return state, try_number


def _from_database(ti: Any) -> tuple[str | None, int | None]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found: tuple[str | None, int] | None = (
            session.query(TaskInstance.state, TaskInstance.try_number)
            .filter(
                TaskInstance.dag_id == ti.dag_id,
                TaskInstance.task_id == ti.task_id,
                TaskInstance.run_id == ti.run_id,
                TaskInstance.map_index == ti.map_index,
            )
            .one_or_none()
        )
    return (found[0], found[1]) if found else (None, None)
