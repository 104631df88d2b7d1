"""Which operations belong to a task: it records their names before it waits, and clean-up finds them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.cancelling import CancelOutcome
from airflow_ee_provider.earth_engine.errors import OperationNotFoundError, TransientError
from airflow_ee_provider.earth_engine.operations import OperationName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: The XCom's key, and the key in Airflow 3.3's task_state_store.
OPERATIONS_KEY = "earth_engine_operations"

#: The XCom's key for the number of the try that recorded them.
TRY_KEY = "earth_engine_try"

#: The store's key for all operations that a task starts, once it has started and recorded the last of them.
STARTED_KEY = "earth_engine_started"


def record_operations(context: Context, names: str | OperationName | Iterable[str | OperationName]) -> list[str]:
    """Write down that this task holds these operations, in addition to those that it recorded before.

    Call it as soon as a name is known: what is recorded is found by `EarthEngineCancelOperationsNotifier`. The XCom
    is gone when the task is cleared or tried again; Airflow 3.3's ``task_state_store`` still has the names then.

    :param context: the running task's context.
    :param names: full operation names, ``projects/PROJECT/operations/ID``; one or several.
    :return: all names recorded by this try of the task.
    :raises InvalidOperationNameError: if one of them is not a full name; nothing is recorded then.
    """
    known = operations_of_task(context)
    recorded: list[Any] = [str(name) for name in OperationName.parse_all([known, names])]
    if recorded != known:
        ti = _task_instance(context)
        ti.xcom_push(key=OPERATIONS_KEY, value=recorded)
        ti.xcom_push(key=TRY_KEY, value=ti.try_number)
        _remember(context, OPERATIONS_KEY, recorded)
    return recorded


def record_all_started(context: Context, names: list[str]) -> None:
    """Write down that these are all operations that the task starts; see `resume_started`."""
    _remember(context, STARTED_KEY, names)


def resume_started(context: Context, hook: EarthEngineHook, **how: str) -> tuple[list[str], bool]:
    """`resume_operations`, and whether these are all that the task is to start."""
    going_on = resume_operations(context, hook, **how)
    return going_on, bool(going_on) and going_on == _remembered(context, STARTED_KEY)


def _remember(context: Context, key: str, value: Any) -> None:
    # Only a task's own worker may touch the store: in a DAG's callback, reading it hangs the process.
    if (store := context.get("task_state_store")) is not None:
        store.set(key, value)


def _remembered(context: Context, key: str) -> Any:
    store = context.get("task_state_store")
    return None if store is None else store.get(key)


def operations_of_task(context: Context) -> list[str]:
    """Return the operations that the context's task has recorded in this try."""
    return _texts(_task_instance(context).xcom_pull(key=OPERATIONS_KEY))


def operations_of_run(context: Context) -> list[str]:
    """Return the operations that all tasks of the context's DAG run have recorded, each in its latest try."""
    if (ti := context.get("ti")) is None:
        return _texts(_recorded_in_run(_item(context, "dag_run")))
    return _texts(ti.xcom_pull(task_ids=sorted(_item(context, "dag").task_ids), key=OPERATIONS_KEY))


def _recorded_in_run(dag_run: Any) -> list[Any]:
    """Ask for the XComs of a run of which only the ids are known: a missed deadline's context has no task."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    of = {"dag_id": dag_run["dag_id"], "run_id": dag_run["dag_run_id"]}
    states = RuntimeTaskInstance.get_task_states(dag_id=of["dag_id"], run_ids=[of["run_id"]])
    # A mapped task is named with its index there. What looks like one can be called so, too: both are asked for.
    instances: dict[tuple[str, int], None] = {}
    for task in states.get(of["run_id"], {}):
        base, _, index = task.rpartition("_")
        instances[task, -1] = None
        if base and index.isdigit():
            instances[base, int(index)] = None
    return [
        BaseXCom.get_one(key=OPERATIONS_KEY, task_id=task_id, map_index=map_index, **of)
        for task_id, map_index in instances
    ]


def is_run_context(context: Context) -> bool:
    """Whether this is the context of a DAG's callback or deadline rather than a task's."""
    return "reason" in context or "deadline" in context


def resume_operations(
    context: Context, hook: EarthEngineHook, *, on_retry: str = "reattach", on_clear: str = "cancel"
) -> list[str]:
    """Meet what the last try of this task has left; call it before starting anything.

    Airflow 3.3's ``task_state_store`` remembers it; before, nothing does, and there is nothing to resume.

    :param context: the running task's context.
    :param hook: asks for the operations' states, and cancels.
    :param on_retry: after a failure or a crash: ``reattach`` goes on with what is active or has succeeded;
        ``cancel`` cancels and confirms it; ``ignore`` leaves it alone.
    :param on_clear: the same after the task was cleared. One that was cleared while it ran can look like a retry to
        its next try; a sensor or an operator with ``cancel_on_kill`` is told of the kill before that.
    :return: the operations to go on with, recorded for this try; none if the task is to start anew.
    :raises EarthEngineError: if something left could not be cancelled: nothing new must be started beside it.
    """
    how = on_clear if _was_cleared(context) else on_retry
    if how not in ("reattach", "cancel", "ignore"):
        raise ValueError(f"on_retry and on_clear are 'reattach', 'cancel' or 'ignore', not {how!r}.")
    left = _texts(_remembered(context, OPERATIONS_KEY))
    if how == "reattach":
        going_on = [name for name in left if _goes_on(name, hook)]
        return record_operations(context, going_on) if going_on else []
    for result in hook.cancel_operations(left) if how == "cancel" else ():
        if not result.outcome.settled and result.outcome is not CancelOutcome.NOT_FOUND:
            raise result.error or TransientError("It is still cancelling.", subject=str(result.name))
    return []


def _goes_on(name: str, hook: EarthEngineHook) -> bool:
    """Whether an operation is active or has succeeded."""
    try:
        operation = hook.get_operation(name)
    except OperationNotFoundError:
        return False
    return not operation.done or operation.succeeded


def tries_since_clear(context: Context) -> int:
    """Return how often the task has tried since it was cleared last, or at all: 1 for the first try.

    A clear raises ``max_tries`` by what was used up; a retry leaves it as it was.
    """
    ti = _task_instance(context)
    tries: int = ti.try_number - (ti.max_tries - _item(context, "task").retries)
    return max(1, tries)


def _was_cleared(context: Context) -> bool:
    return bool(_task_instance(context).try_number > 1) and tries_since_clear(context) == 1


def _texts(recorded: Any) -> list[str]:
    return [str(name) for name in OperationName.parse_all(recorded)]


def _task_instance(context: Context) -> Any:
    return _item(context, "ti")


def _item(context: Context, key: str) -> Any:
    if (value := context.get(key)) is None:
        raise LookupError(f"There is no {key!r} in this callback's context: pass operation_names instead.")
    return value
