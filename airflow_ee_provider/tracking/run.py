"""Read the records of other tasks of a DAG run, for callbacks, deadlines and operators that cancel their operations."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.base.run_xcoms import tasks_of, xcoms_of_run
from airflow_ee_provider.base.stored_values import or_error
from airflow_ee_provider.base.task_states import ACTIVE_STATES, states_of_run
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record, item_of, map_index_of, part_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.transport.drivers import Log


#: Pauses before a running task without a record is read again, in seconds.
PAUSES = (0.5, 1.0, 2.0)

#: States in which a task can have recorded its operations, and may have no record for a moment.
RECORDING = frozenset({"running", "deferred", "up_for_reschedule", "up_for_retry"})


def records_of_run(
    context: Context,
    of_task: Callable[[str], bool] = lambda _task_id: True,
    of_record: Callable[[Record], bool] = lambda _record: True,
) -> Iterator[Record | Exception]:
    """Yield the records of the latest tries of all tasks in the context's DAG run.

    Airflow deletes the XComs of a task when a try or a sensor's poke begins, and the task records its operations again.
    So running tasks without a record are read again, for `PAUSES`.

    :param of_task: Returns whether a task's records are read, by its id.
    :param of_record: Returns whether a record of such a task is yielded.
    :return: The records; an exception in place of each record that cannot be read.
    """
    run, dag, ti = _run_of(context), context.get("dag"), context.get("ti")
    known = {task_id: _can_be_mapped(dag, task_id) for task_id in dag.task_ids} if dag is not None else {}
    own = "" if ti is None else _instance(ti.task_id, map_index_of(ti))
    read: set[str] = set()
    yield from _unread(run, known, of_task, of_record, read)
    for pause in (*PAUSES, None):
        states = {name: state for name, state in states_of_run(*run).items() if state in RECORDING and name != own}
        late = {name: [one for one in tasks_of(name, known) if of_task(one)] for name in states.keys() - read}
        tasks = {task_id for found in late.values() for task_id in found}
        if not tasks:
            return
        yield from _unread(run, known, tasks.__contains__, of_record, read)
        running = [name for name, found in late.items() if found and states[name] == "running" and name not in read]
        if pause is None or not running:
            return
        time.sleep(pause)


def _unread(
    run: tuple[str, str],
    known: Mapping[str, bool],
    of_task: Callable[[str], bool],
    of_record: Callable[[Record], bool],
    read: set[str],
) -> Iterator[Record | Exception]:
    """Yield the records of a run's tasks that were not read before.

    :param read: The names of the task instances whose records were read; those of this call are added.
    """
    before: dict[str, int] = {}
    found: set[str] = set()

    def unread(key: str, of_task: Callable[[str], bool]) -> Iterator[Record | Exception]:
        for task_id, record in _records(key, *run, known, of_task):
            name = _instance(task_id, record.map_index) if isinstance(record, Record) else task_id
            if name in read:
                continue
            found.add(name)
            if isinstance(record, Record):
                before[task_id] = max(before.get(task_id, 0), record.parts_before)
            if isinstance(record, Exception) or of_record(record):
                yield record

    yield from unread(OPERATIONS_KEY, of_task)
    for number in range(1, max(before.values(), default=0) + 1):
        longer = {task_id for task_id, parts in before.items() if parts >= number}
        yield from unread(part_key(number), longer.__contains__)
    read |= found


def _instance(task_id: str, map_index: int) -> str:
    """Return the name of a task instance in Airflow's states of a run."""
    return task_id if map_index < 0 else f"{task_id}_{map_index}"


def _records(
    key: str, dag_id: str, run_id: str, known: Mapping[str, bool], of_task: Callable[[str], bool]
) -> Iterator[tuple[str, Record | Exception]]:
    """Yield the records of a run's tasks that are stored with a key."""
    for task_id, value in xcoms_of_run(key, dag_id, run_id, known, of_task):
        if value is not None:
            yield task_id, _read(value, task_id)


def _read(value: Any, task_id: str) -> Record | Exception:
    """Return a record, or the error if it cannot be read."""
    try:
        return Record.from_json(value)
    except Exception as error:  # noqa: BLE001 (an XCom backend may raise any exception)
        return LookupError(f"Could not read the record of the task {task_id!r}: {error}")


def _can_be_mapped(dag: Any, task_id: str) -> bool:
    task = dag.get_task(task_id)
    return bool(getattr(task, "is_mapped", False) or _mapped_group(task))


def _mapped_group(task: Any) -> str | None:
    find = getattr(task, "get_closest_mapped_task_group", None)
    group = find() if find else None
    return None if group is None else group.group_id


def records_of_upstream(context: Context, operator: Any) -> Iterator[Record | Exception]:
    """Yield the records of an operator's upstream tasks in this run.

    These are all its direct and indirect upstream tasks; for a teardown with setups, only the tasks between these and
    the teardown; in a mapped task group, only the group's tasks with the same map index. Outside mapped groups, ended
    tasks that were removed from the DAG's file are included, since no other operator cancels their operations.
    """
    dag, ti, group = context["dag"], item_of(context, "ti"), _mapped_group(operator)
    upstream = set(operator.get_flat_relative_ids(upstream=True))
    setups = [task for task in operator.upstream_list if task.is_setup] if operator.is_teardown else []
    if setups:
        between = {task_id for setup in setups for task_id in setup.get_flat_relative_ids(upstream=False)}
        upstream &= between | {setup.task_id for setup in setups}
    if group is not None:
        own = map_index_of(ti)
        for task_id in sorted(task_id for task_id in upstream if _mapped_group(dag.get_task(task_id)) == group):
            yield from _of_instance(ti, task_id, own)
        return
    states = states_of_run(*_run_of(context))

    def is_in_scope(record: Record) -> bool:
        state = states.get(_instance(record.task_id, record.map_index))
        return record.task_id in upstream or (bool(states) and state not in ACTIVE_STATES)

    yield from records_of_run(context, lambda task_id: task_id in upstream or task_id not in dag.task_ids, is_in_scope)


def _of_instance(ti: Any, task_id: str, map_index: int) -> Iterator[Record | Exception]:
    """Yield the records of another task instance of the run."""

    def read(key: str) -> Record | Exception | None:
        value = or_error(ti.xcom_pull, task_ids=task_id, map_indexes=map_index, key=key)
        return None if value is None else _read(value, task_id)

    last = read(OPERATIONS_KEY)
    before = range(1, last.parts_before + 1) if isinstance(last, Record) else ()
    yield from (one for one in (*(read(part_key(number)) for number in before), last) if one is not None)


def _run_of(context: Context) -> tuple[str, str]:
    """Return the DAG id and the run id of a context. A missed deadline's context has no task, and its run is a dict."""
    if (ti := context.get("ti")) is not None:
        return ti.dag_id, ti.run_id
    run: Any = item_of(context, "dag_run")
    return run["dag_id"], run["dag_run_id"]


def groups_to_cancel(
    records: Iterable[Record | Exception], context: Context, default: dict[str, Any], log: Log
) -> tuple[list[tuple[dict[str, Any], list[str]]], list[Exception]]:
    """Return the recorded operations that may be cancelled, by account, and why others may not; the log gets that, too.

    :param default: The account of the caller.
    """
    readable: list[Record] = []
    refused: list[Exception] = []
    for record in _authorized(records, context, default):
        if isinstance(record, Exception):
            log.error("%s Its operations may still run.", record)
            refused.append(record)
        else:
            readable.append(record)
    return by_account(readable, default), refused


def _authorized(
    records: Iterable[Record | Exception], context: Context, default: Mapping[str, Any]
) -> Iterator[Record | Exception]:
    """Yield records with only the operations that may be cancelled, and an exception for the others.

    An XCom can be written by others than its task. So a recorded operation must belong to the project of the connection
    that cancels it, or to one that the DAG's author has set as ``project_id``: of the caller, or of one of the DAG's
    tasks.

    :param default: The account of the caller.
    """
    named, dag = {default["project_id"]}, context.get("dag")
    for task in map(dag.get_task, dag.task_ids) if dag is not None else ():
        named.add(getattr(task, "project_id", None) or getattr(task, "partial_kwargs", {}).get("project_id"))
    is_templated = any("{" in str(project) for project in named)  # Then any recorded project is allowed.
    of_connection: dict[Any, str] = {}
    for record in records:
        if isinstance(record, Exception):
            yield record
            continue
        account = default if record.account is None else record.account
        connection = account["earth_engine_conn_id"]
        if connection not in of_connection:
            of_connection[connection] = _project_of(connection)
        may = {of_connection[connection], *named}
        if is_templated or dag is None:
            may.add(account.get("project_id"))
        names = OperationName.parse_all(record.operation_names)
        if foreign := [str(name) for name in names if name.project not in may]:
            yield PermissionError(
                f"Not cancelling {', '.join(foreign)}: neither the connection {connection!r} nor the DAG names their "
                "project. To cancel them, set that project as project_id."
            )
        yield replace(record, operation_names=tuple(str(name) for name in names if name.project in may), start_keys=())


def _project_of(connection: str | None) -> str:
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    try:
        return EarthEngineHook(connection).account.default_project
    except Exception:  # noqa: BLE001 (a secrets backend may raise any exception; the cancel itself reports it)
        return ""


def by_account(records: Iterable[Record], default: Mapping[str, Any]) -> list[tuple[dict[str, Any], list[str]]]:
    """Return the operations of records, by the account that started them.

    :param default: The account for records that name none.
    """
    found: dict[str, tuple[dict[str, Any], dict[str, None]]] = {}
    for record in records:
        if not record.operation_names:
            continue
        account = dict(default if record.account is None else record.account)
        _, names = found.setdefault(repr(sorted(account.items())), (account, {}))
        names.update(dict.fromkeys(record.operation_names))
    return [(account, list(names)) for account, names in found.values()]
