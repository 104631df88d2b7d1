"""Functions that all operators and sensors share: the hook, and the ``operation_names`` parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_ee_provider.base.connection import connection_kwargs
from airflow_ee_provider.base.errors import airflow_errors
from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError
from airflow_ee_provider.links.earth_engine import EarthEngineTasksLink
from airflow_ee_provider.tracking.record import cancel_on_of
from airflow_ee_provider.tracking.store import record_started

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.record import Ownership


def hook_of(task: Any) -> EarthEngineHook:
    """Return a hook with a task's connection parameters."""
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    return EarthEngineHook(**connection_kwargs(task))


def names_of(task: Any, parameter: str) -> list[OperationName]:
    """Parse a task's parameter that contains names of operations.

    :raises AirflowFailException: If one of them is not a name; names the parameter.
    """
    with airflow_errors():
        account = task.hook.account
    try:
        names: list[OperationName] = account.names(getattr(task, parameter))
    except InvalidOperationNameError as error:
        raise AirflowFailException(f"{parameter}: {error}") from None
    return names


def record_names(task: Any, context: Context, ownership: Ownership) -> list[OperationName]:
    """Parse a task's ``operation_names`` and record them, before the task waits for them.

    The task's attribute is then a list of strings, so that a kill can read it without a request to Airflow.

    :param ownership: The relation of the task to the operations.
    :raises AirflowSkipException: If there is no name, since the upstream task started nothing.
    """
    names = names_of(task, "operation_names")
    if not names:
        raise AirflowSkipException(f"{task.task_id} is skipped: operation_names contains no operation.")
    task.operation_names = [str(name) for name in names]
    task.hook.preload()
    record_started(context, dict.fromkeys(map(str, names), ""), connection_kwargs(task), ownership, cancel_on_of(task))
    EarthEngineTasksLink.persist_for(context, names)
    return names
