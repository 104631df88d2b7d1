"""Which operations belong to a task: it records their names before it waits, and clean-up finds them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.operations import OperationName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.providers.common.compat.sdk import Context

#: The XCom's key, and the key in Airflow 3.3's task_state_store.
OPERATIONS_KEY = "earth_engine_operations"


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
        _task_instance(context).xcom_push(key=OPERATIONS_KEY, value=recorded)
        # Only a task's own worker may touch the store: in a DAG's callback, reading it hangs the process.
        if (store := context.get("task_state_store")) is not None:
            store.set(OPERATIONS_KEY, recorded)
    return recorded


def operations_of_task(context: Context) -> list[str]:
    """Return the operations that the context's task has recorded in this try."""
    return _texts(_task_instance(context).xcom_pull(key=OPERATIONS_KEY))


def operations_of_run(context: Context) -> list[str]:
    """Return the operations that all tasks of the context's DAG run have recorded, each in its latest try."""
    task_ids = sorted(_item(context, "dag").task_ids)
    return _texts(_task_instance(context).xcom_pull(task_ids=task_ids, key=OPERATIONS_KEY))


def is_run_context(context: Context) -> bool:
    """Whether this is the context of a DAG's callback rather than a task's: only those know a reason."""
    return "reason" in context


def _texts(recorded: Any) -> list[str]:
    return [str(name) for name in OperationName.parse_all(recorded)]


def _task_instance(context: Context) -> Any:
    return _item(context, "ti")


def _item(context: Context, key: str) -> Any:
    if (value := context.get(key)) is None:
        raise LookupError(f"There is no {key!r} in this callback's context: pass operation_names instead.")
    return value
