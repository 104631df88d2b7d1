"""Read all XComs of a DAG run that have the same key, in the same way in all versions of Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.process import _runs_in_triggerer
from airflow_ee_provider.base.stored_values import or_error, xcom, xcom_backend
from airflow_ee_provider.base.task_states import states_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def xcoms_of_run(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    """Yield the task id and the value of each XCom of a DAG run with a key, also of tasks removed from the DAG's file.

    The value is an exception if the XCom could not be read.

    :param known_tasks: The ids of the tasks in the DAG's present file, each with whether the task can be mapped.
    :param wanted: Returns whether the XComs of a task are needed, by its id.
    """
    return (_from_supervisor if AIRFLOW_3 else _from_database)(key, dag_id, run_id, known_tasks, wanted)


def _from_database(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    del known_tasks  # The database has the XComs of all tasks.
    from airflow.utils.session import create_session

    backend = xcom_backend()
    with create_session() as session:
        query = backend.get_many(key=key, dag_ids=dag_id, run_id=run_id, session=session)
        # Columns, not entities: SQLAlchemy has already deserialized the value of an entity, in another way.
        rows = query.with_entities(backend.task_id, backend.map_index, backend.value).all()
        rows = sorted((row for row in rows if wanted(row.task_id)), key=lambda row: (row.task_id, row.map_index))
        found = [(row.task_id, or_error(backend.deserialize_value, row)) for row in rows]
    yield from found


def _from_supervisor(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Any]]:
    of: dict[str, Any] = {"key": key, "dag_id": dag_id, "run_id": run_id}
    for task_id, indexes in _instances_of_run(dag_id, run_id, known_tasks).items():
        if not wanted(task_id):
            continue
        if not _runs_in_triggerer():
            values = or_error(xcom_backend().get_all, **of, task_id=task_id)
            if not isinstance(values, Exception):
                for value in values or ():
                    yield task_id, value
                continue
        for map_index in indexes or (-1,):  # Separately, since one that cannot be read makes `get_all` fail.
            value = or_error(xcom, **of, task_id=task_id, map_index=map_index)
            if value is not None:
                yield task_id, value


def _instances_of_run(dag_id: str, run_id: str, known_tasks: Mapping[str, bool]) -> dict[str, list[int]]:
    """Return the ids of a run's tasks, each with the map indexes of its task instances, if it is mapped."""
    states = states_of_run(dag_id, run_id)
    found: dict[str, list[int]] = {task_id: [] for task_id in sorted(known_tasks)}
    for name in states:
        for task_id in tasks_of(name, known_tasks):
            indexes = found.setdefault(task_id, [])
            if task_id != name:
                indexes.append(int(name.rpartition("_")[2]))
    return found


def tasks_of(name: str, known_tasks: Mapping[str, bool]) -> list[str]:
    """Return the ids of the tasks to which a task instance can belong, by its name in Airflow's states of a run.

    The name of a mapped task instance ends with its index. The id of a task that is not mapped can also end with a
    number. If ``known_tasks`` does not have the task, both ids are returned.

    :param known_tasks: The ids of the tasks in the DAG's present file, each with whether the task can be mapped.
    """
    base, _, index = name.rpartition("_")
    if not base or not index.isdigit():
        return [name]
    if known_tasks.get(base):
        return [base]
    return [name] if base in known_tasks else [base, name]
