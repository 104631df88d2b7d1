"""Read the present states of task instances and DAG runs from Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.stored_values import or_error, xcom

if TYPE_CHECKING:
    from collections.abc import Collection


#: States of a task instance in which it may still need its operations.
ACTIVE_STATES = frozenset(
    {"scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule"}
)


def own_state(ti: Any) -> str:
    """Return a task instance's present state: ``cleared`` if it has no state, ``deleted`` if it does not exist.

    :raises Exception: If Airflow does not answer.
    """
    return _state_from_supervisor(ti) if AIRFLOW_3 else _state_from_database(ti)[0]


def is_run_active_now(ti: Any) -> bool:
    """Whether the DAG run of a task instance has not ended.

    :raises Exception: If Airflow does not answer.
    """
    if not AIRFLOW_3:
        return _state_from_database(ti)[2]
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return _in_words(RuntimeTaskInstance.get_dagrun_state(ti.dag_id, ti.run_id)) in ("running", "queued")


def _state_from_supervisor(ti: Any) -> str:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    of: dict[str, Any] = {"task_ids": [ti.task_id], "run_ids": [ti.run_id], "map_index": ti.map_index}
    by_task = RuntimeTaskInstance.get_task_states(dag_id=ti.dag_id, **of).get(ti.run_id, {})
    for name in (f"{ti.task_id}_{ti.map_index}", ti.task_id):
        if name in by_task:
            return _in_words(by_task[name])
    return "deleted"


def word_of(state: Any) -> str | None:
    """Return a state as a string. Airflow's tables have strings or members of an enum, and None for no state."""
    return None if state is None else str(getattr(state, "value", state))


def _in_words(state: Any) -> str:
    return word_of(state) or "cleared"


def _state_from_database(ti: Any) -> tuple[str, int | None, bool]:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found: Any = (
            session.query(TaskInstance.state, TaskInstance.try_number)
            .filter(
                TaskInstance.dag_id == ti.dag_id,
                TaskInstance.task_id == ti.task_id,
                TaskInstance.run_id == ti.run_id,
                TaskInstance.map_index == ti.map_index,
            )
            .one_or_none()
        )
        run: Any = session.query(DagRun.state).filter(DagRun.dag_id == ti.dag_id, DagRun.run_id == ti.run_id)
        goes_on = run.scalar() in ("running", "queued")
    return (_in_words(found[0]), found[1], goes_on) if found else ("deleted", None, goes_on)


def states_of_run(dag_id: str, run_id: str) -> dict[str, str]:
    """Return the states of a run's task instances by `instance_name`; empty if Airflow does not answer."""
    states = or_error(states_of, dag_id, [run_id])
    return {} if isinstance(states, Exception) else {name: state for (_, name), state in states.items()}


def states_of(dag_id: str, run_ids: Collection[str], task_ids: Collection[str] = ()) -> dict[tuple[str, str], str]:
    """Return the states of a DAG's task instances by run id and `instance_name`, with one request.

    :param task_ids: The ids of the tasks; by default all tasks.
    :raises Exception: If Airflow does not answer.
    """
    if AIRFLOW_3:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        of: dict[str, Any] = {"run_ids": list(run_ids), **({"task_ids": list(task_ids)} if task_ids else {})}
        found = RuntimeTaskInstance.get_task_states(dag_id=dag_id, **of)
        return {(run_id, name): _in_words(state) for run_id, of_run in found.items() for name, state in of_run.items()}
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        columns = (TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
        query = session.query(*columns).filter(TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_(run_ids))
        rows: Collection[Any] = (query.filter(TaskInstance.task_id.in_(task_ids)) if task_ids else query).all()
    return {(row.run_id, instance_name(row.task_id, row.map_index)): _in_words(row.state) for row in rows}


def instance_name(task_id: str, map_index: int) -> str:
    """Return a task instance's name in Airflow's states of a run. A mapped one's name ends with its index."""
    return task_id if map_index < 0 else f"{task_id}_{map_index}"


def own_try(ti: Any, try_key: str) -> int | None:
    """Return the number of a task instance's try now; None if Airflow does not return it.

    :param try_key: The key of the XCom in which the task has stored the number: Airflow 3 does not pass it to a
        trigger.
    :raises Exception: If Airflow does not answer.
    """
    if not AIRFLOW_3:
        return _state_from_database(ti)[1]
    try_number = xcom(try_key, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    if try_number is not None and not isinstance(try_number, int):
        raise TypeError(f"{try_key} is a {type(try_number).__name__}, not the number of a try.")
    return try_number
