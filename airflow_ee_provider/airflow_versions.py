"""What differs between the versions of Airflow, read here and nowhere else.

Each was measured on 2.11.2, 3.1.8 and 3.3.2, by the tests and by ``make matrix``.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

#: Airflow 3 has tasks talk to their supervisor; Airflow 2 has them talk to the database.
AIRFLOW_3 = not airflow_version.startswith("2.")

#: From 3.3 on, Airflow keeps what a task has stored from one try to the next.
HAS_TASK_STATE_STORE = tuple(int(part) for part in airflow_version.split(".")[:2]) >= (3, 3)

#: How Airflow says, to a task that it resumes, that its trigger has timed out: 3.x, and 2.11.
_TRIGGER_TIMEOUTS = ("Trigger timeout", "Trigger/execution timeout")

#: States of a task instance in which it may still want what it holds.
ACTIVE_STATES = frozenset(
    {"scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule"}
)


def tells_triggers_of_kills() -> bool:
    """Whether Airflow tells a trigger that a user acted on its task (from 3.3 on); before, it only cancels it."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def has_react_apps() -> bool:
    """Whether Airflow's UI takes pages from plugins (from 3.1 on)."""
    from airflow.plugins_manager import AirflowPlugin

    return hasattr(AirflowPlugin, "react_apps")


def stats_if_collected() -> Any:
    """Return Airflow's ``Stats``; None where nobody collects metrics."""
    from airflow.providers.common.compat.sdk import Stats, conf

    ways = ("statsd_on", "statsd_datadog_enabled", "otel_on")
    if not any(conf.getboolean("metrics", way, fallback=False) for way in ways):
        return None
    with suppress(ImportError):  # From 3.3 on. Airflow makes it ready for tasks, not in the triggerer's own process.
        from airflow.sdk.observability import stats
        from airflow.sdk.observability.metrics import stats_utils

        if hasattr(stats, "initialize") and getattr(sys.modules[stats.initialize.__module__], "_factory", None) is None:
            legacy = conf.getboolean("metrics", "legacy_names_on", fallback=True)
            stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy)
    return Stats


def trigger_timed_out(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Whether a task is resumed because its trigger timed out; no code of the trigger's ran then."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and str(getattr(error, "value", error)) in _TRIGGER_TIMEOUTS


def runs_a_task(ti: Any) -> bool:
    """Whether this process runs that task, rather than a callback in the dag-processor: Airflow exports its names."""
    return bool(
        os.environ.get("AIRFLOW_CTX_TASK_ID") == ti.task_id
        and os.environ.get("AIRFLOW_CTX_DAG_RUN_ID") == ti.run_id
        and os.environ.get("AIRFLOW_CTX_DAG_ID") == ti.dag_id
    )


def threads_may_ask_airflow() -> bool:
    """Whether threads can talk to Airflow side by side: before 3.2, answers of the supervisor can get mixed up."""
    if not AIRFLOW_3:
        return True
    from airflow.sdk.execution_time import comms

    return hasattr(comms, "DeadlockImminentError")


def is_asking_airflow() -> bool:
    """Whether the code that a signal handler has interrupted is just asking Airflow something, as no other may then."""
    return _interrupts("airflow.sdk.execution_time.comms")


def is_writing_to_the_log() -> bool:
    """Whether the code that a signal handler has interrupted is just writing a log line of Airflow 3's.

    structlog holds a lock meanwhile that a second line, written in the handler, would wait for without end. The signal
    that `tell_again` sends comes often there: Python switches threads where one waits for the system.
    """
    return _interrupts("structlog")


def _interrupts(module: str) -> bool:
    frame: Any = sys._getframe()  # noqa: SLF001 (the interrupted code is nowhere else)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == module or name.startswith(f"{module}."):
            return True
        frame = frame.f_back
    return False


def tell_again(seconds: float) -> None:
    """Let Airflow 3 call ``on_kill`` once more, from its handler of SIGTERM, when what that has interrupted is over."""

    def tell() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    _thread.start_new_thread(tell, ())


def add_listener(listener: object) -> None:
    """Let Airflow's listener manager call an object, in this process."""
    _listener_manager().add_listener(listener)


def remove_listener(listener: object) -> None:
    """Let Airflow's listener manager call an object no more."""
    manager = _listener_manager().pm
    if manager.is_registered(listener):
        manager.unregister(listener)


def _listener_manager() -> Any:
    try:
        listening: Any = import_module("airflow.sdk.listener")
    except ImportError:
        listening = import_module("airflow.listeners.listener")
    return listening.get_listener_manager()


def tells_of_the_end(ti: Any) -> bool:
    """Whether Airflow calls `before_stopping` at the end of a task's process: not in a ``dag.test()`` of Airflow 2."""
    return AIRFLOW_3 or not is_a_dag_test(ti)


def is_a_dag_test(ti: Any) -> bool:
    """Whether ``dag.test()`` runs the task: in its own process, and then the trigger in the same."""
    if not AIRFLOW_3:
        return getattr(ti, "job_id", None) is None
    from airflow.sdk.execution_time import task_runner

    return "InProcess" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def is_a_task_test(ti: Any) -> bool:
    """Whether ``airflow tasks test`` runs the task: whatever happens there, no other try follows."""
    return bool(getattr(ti, "test_mode", False)) or os.environ.get("AIRFLOW_TEST_MODE") == "True"


def can_run_a_trigger(ti: Any) -> bool:
    """Whether something runs the trigger of a task that defers: not ``dag.test()`` in a notebook.

    There, an event loop runs already, and another one cannot run in the same thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return not is_a_dag_test(ti)


def is_an_inline_trigger() -> bool:
    """Whether ``dag.test()`` runs this trigger, on an event loop of its own in the process of the task."""
    running = asyncio.current_task()
    # Nothing else tells: a trigger there has no task instance, and Airflow 2 leaves no trace of itself.
    name = getattr(running.get_coro(), "__qualname__", "") if running else ""
    return name.startswith(("_run_inline_trigger.", "InProcessTestSupervisor.run_trigger_in_process."))


def _runs_in_triggerer() -> bool:
    """Whether this is the triggerer, whose supervisor never answers a question about several XComs."""
    from airflow.sdk.execution_time import task_runner

    return "Trigger" in type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__


def own_state(ti: Any) -> str:
    """Return the state that Airflow has of a task instance now: ``cleared`` for none, ``deleted`` for no such instance.

    :raises Exception: whatever keeps Airflow from saying so.
    """
    return _state_from_supervisor(ti) if AIRFLOW_3 else _state_from_database(ti)[0]


def run_goes_on(ti: Any) -> bool:
    """Whether the DAG run of a task instance has not ended.

    :raises Exception: whatever keeps Airflow from saying so.
    """
    if not AIRFLOW_3:
        return _state_from_database(ti)[2]
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return _in_words(RuntimeTaskInstance.get_dagrun_state(ti.dag_id, ti.run_id)) in ("running", "queued")


def own_try(ti: Any, try_key: str) -> int | None:
    """Return the number of a task instance's try now; None where Airflow does not tell.

    :param try_key: of the XCom in which the task has written its try down: Airflow 3 does not tell a trigger.
    :raises Exception: whatever keeps Airflow from saying so.
    """
    if not AIRFLOW_3:
        return _state_from_database(ti)[1]
    try_number = xcom(try_key, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    if try_number is not None and not isinstance(try_number, int):
        raise TypeError(f"{try_key} holds {type(try_number).__name__}, not the number of a try.")
    return try_number


def _state_from_supervisor(ti: Any) -> str:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    of: dict[str, Any] = {"task_ids": [ti.task_id], "run_ids": [ti.run_id], "map_index": ti.map_index}
    by_task = RuntimeTaskInstance.get_task_states(dag_id=ti.dag_id, **of).get(ti.run_id, {})
    for name in (f"{ti.task_id}_{ti.map_index}", ti.task_id):
        if name in by_task:
            return _in_words(by_task[name])
    return "deleted"


def _in_words(state: Any) -> str:
    return "cleared" if state is None else str(getattr(state, "value", state))


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


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
    """Return an XCom through the backend that is configured; None where there is none."""
    return xcom_backend().get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def set_xcom(key: str, value: Any, ti: Any) -> None:
    """Write an XCom of a task instance, also from the triggerer."""
    of = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
    xcom_backend().set(key=key, value=value, **of)


def variable(key: str) -> str | None:
    """Return the text of an Airflow Variable; None if there is none. Airflow 2 asks no secrets backend for it."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        found: str | None = Variable.get(key, default=None)
        return found
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        row: Any = session.query(Model).filter(Model.key == key).one_or_none()
        text: str | None = row.get_val() if row else None
    return text


def set_variable(key: str, text: str, description: str) -> None:
    """Write an Airflow Variable."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        Variable.set(key, text, description)
        return
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Model).filter(Model.key == key).delete()
        session.add(Model(key=key, val=text, description=description))


def delete_variable(key: str) -> None:
    """Delete an Airflow Variable, if it is there."""
    if AIRFLOW_3:
        from airflow.sdk import Variable

        Variable.delete(key)
        return
    from airflow.models.variable import Variable as Model
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Model).filter(Model.key == key).delete()


def xcom_backend() -> Any:
    """Return the class that ``[core] xcom_backend`` names."""
    # `BaseXCom` would give a custom backend's own notes, such as the path of an object, in place of the value.
    return import_module("airflow.sdk.execution_time.xcom" if AIRFLOW_3 else "airflow.models.xcom").XCom


def xcom_table() -> Any:
    """Return SQLAlchemy's table of XComs; the same columns in all versions."""
    if AIRFLOW_3:
        from airflow.models.xcom import XComModel as Model
    else:
        from airflow.models.xcom import BaseXCom as Model  # type: ignore[no-redef]
    return Model.__table__


def database_of_its_own() -> Any:
    """Return an engine of SQLAlchemy's to Airflow's database that keeps no connection, and shares no pool with Airflow.

    Airflow's executor forks processes, in which a pool's lock that a thread of ours has just held is never released.
    """
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine: Any = settings.engine
    # Whatever Airflow's configuration connects with, certificates and arguments, is in there.
    return create_engine(engine.url, creator=engine.pool._creator, poolclass=NullPool)  # noqa: SLF001


def connection_of_server(conn_id: str) -> Any:
    """Return a connection in one of Airflow's own processes, such as the triggerer's, which may read the database.

    Hooks ask as a task does, and Airflow 3.0 to 3.2 do not take the triggerer for a process of Airflow's then.

    :raises Exception: if there is none, or it cannot be read.
    """
    from airflow.models.connection import Connection

    return Connection.get_connection_from_secrets(conn_id)


def xcoms_of_run(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, int | None, Any]]:
    """Yield task id, map index and value of all XComs of a DAG run under a key, of tasks that are gone as well.

    Who wrote it may be known only from the value: the map index is None then. An exception is the value of what could
    not be read.

    :param known_tasks: the ids of the tasks of the DAG's present file, each with whether it can be mapped.
    :param wanted: whether a task's id is asked about.
    """
    return (_from_supervisor if AIRFLOW_3 else _from_database)(key, dag_id, run_id, known_tasks, wanted)


def _from_database(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, int | None, Any]]:
    del known_tasks  # The database has them all.
    from airflow.utils.session import create_session

    backend = xcom_backend()
    with create_session() as session:
        query = backend.get_many(key=key, dag_ids=dag_id, run_id=run_id, session=session)
        # Columns, not entities: those have their values deserialised already, by another rule.
        rows = query.with_entities(backend.task_id, backend.map_index, backend.value).all()
        found = [
            (row.task_id, row.map_index, or_error(backend.deserialize_value, row))
            for row in rows
            if wanted(row.task_id)
        ]
    yield from sorted(found, key=lambda one: one[:2])


def _from_supervisor(
    key: str, dag_id: str, run_id: str, known_tasks: Mapping[str, bool], wanted: Callable[[str], bool]
) -> Iterator[tuple[str, int | None, Any]]:
    of: dict[str, Any] = {"key": key, "dag_id": dag_id, "run_id": run_id}
    for task_id, indexes in _instances_of_run(dag_id, run_id, known_tasks).items():
        if not wanted(task_id):
            continue
        if not _runs_in_triggerer():
            values = or_error(xcom_backend().get_all, **of, task_id=task_id)
            if not isinstance(values, Exception):
                for value in values or ():
                    yield task_id, None, value
                continue
        for map_index in indexes or (-1,):  # One of them cannot be read: the others can.
            value = or_error(xcom, **of, task_id=task_id, map_index=map_index)
            if value is not None:
                yield task_id, map_index, value


def _instances_of_run(dag_id: str, run_id: str, known_tasks: Mapping[str, bool]) -> dict[str, list[int]]:
    """Return the ids of a run's tasks, with the map indexes of those that are mapped."""
    states = states_of_run(dag_id, run_id)
    found: dict[str, list[int]] = {task_id: [] for task_id in sorted(known_tasks)}
    for name in states:
        # A mapped task is named with its index. What looks like one can be called so, too: then both are asked for.
        base, _, index = name.rpartition("_")
        mapped = bool(base) and index.isdigit()
        if mapped and known_tasks.get(base, base not in known_tasks):
            found.setdefault(base, []).append(int(index))
        if not (mapped and known_tasks.get(base)):
            found.setdefault(name, [])
    return found


def states_of_run(dag_id: str, run_id: str) -> dict[str, str]:
    """Return the states of a run's task instances by name, a mapped one's with its index; empty if unknown."""
    states = or_error(states_of, dag_id, [run_id])
    return {} if isinstance(states, Exception) else {name: state for (_, name), state in states.items()}


def states_of(dag_id: str, run_ids: Collection[str], task_ids: Collection[str] = ()) -> dict[tuple[str, str], str]:
    """Return the states of a DAG's task instances by run and name, a mapped one's with its index; one question.

    :param task_ids: of the tasks; all by default.
    :raises Exception: whatever keeps Airflow from saying so.
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
    """Return how Airflow names a task instance among those of its run."""
    return task_id if map_index < 0 else f"{task_id}_{map_index}"


def or_error(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what a call returns, or the exception that it raises: an XCom backend raises what it likes."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001
        return error
