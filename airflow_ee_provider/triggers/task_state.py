"""Asking Airflow before 3.3 for the state of a trigger's own task, in the triggerer."""

from __future__ import annotations

from typing import Any


async def task_instance_state(ti: Any) -> str | None:
    """Return the state of a task instance as Airflow has it now; None where it has none (just cleared)."""
    from airflow import __version__ as airflow_version
    from asgiref.sync import sync_to_async

    look_up = _from_supervisor if int(airflow_version.split(".", 1)[0]) >= 3 else _from_database
    return await sync_to_async(look_up)(ti)


def _from_supervisor(ti: Any) -> str | None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    by_task = states.get(ti.run_id, {})
    mapped = f"{ti.task_id}_{ti.map_index}"
    state: str | None = by_task.get(mapped, by_task.get(ti.task_id))
    return state


def _from_database(ti: Any) -> str | None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        state: str | None = (
            session.query(TaskInstance.state)
            .filter(
                TaskInstance.dag_id == ti.dag_id,
                TaskInstance.task_id == ti.task_id,
                TaskInstance.run_id == ti.run_id,
                TaskInstance.map_index == ti.map_index,
            )
            .scalar()
        )
    return state
