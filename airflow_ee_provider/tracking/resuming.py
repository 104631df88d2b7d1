"""Find the operations of a task's last try, and continue with them or cancel them.

Airflow 3.3's ``task_state_store`` keeps their names; before 3.3, Airflow Variables do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.errors import (
    EarthEngineError,
    OperationNotFoundError,
    PermissionDeniedError,
    TransientError,
)
from airflow_ee_provider.earth_engine.model.operations import OperationState
from airflow_ee_provider.tracking.kept_requests import Asked, all_started
from airflow_ee_provider.tracking.record import RESUMED, STARTED_KEY, Record, item_of, read_parts, run_started
from airflow_ee_provider.tracking.retry_memory import memory_before_an_upgrade, memory_to_read
from airflow_ee_provider.tracking.store import (
    operations_of_task,
    record_started,
    remember,
    started_by_task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

#: The values of ``on_retry`` and ``on_clear``.
WAYS = ("reattach", "cancel", "ignore")


def resume_operations(
    context: Context, hook: EarthEngineHook, *, on_retry: str = "reattach", on_clear: str = "cancel"
) -> list[str]:
    """Find the operations that the last try of this task recorded. Call it before you start any operation.

    Airflow 3.3's ``task_state_store`` keeps the names; before 3.3, Airflow Variables do.

    :param context: The running task's context.
    :param hook: The hook that reads the operations and cancels them.
    :param on_retry: After a failure or a crash: ``reattach`` continues with operations that are active or have
        succeeded; ``cancel`` cancels them and confirms it; ``ignore`` does nothing.
    :param on_clear: The same after the task was cleared. If the task was cleared while it ran, ``on_retry`` may apply
        instead, because Airflow does not always distinguish the two.
    :return: The operations to continue with, recorded for this try. If it is empty, start again from the beginning.
    :raises EarthEngineError: If an operation could not be cancelled. Do not start a new one then.
    """
    return _resume(context, hook, left_by_the_last_try(context), on_retry=on_retry, on_clear=on_clear)


def _resume(
    context: Context,
    hook: EarthEngineHook,
    parts: list[Record],
    *,
    on_retry: str = "reattach",
    on_clear: str = "cancel",
) -> list[str]:
    for parameter, value in (("on_retry", on_retry), ("on_clear", on_clear)):
        if value not in WAYS:
            raise ValueError(f"{parameter} is {value!r}: it must be one of {', '.join(map(repr, WAYS))}.")
    how = on_clear if _was_cleared(context, parts) else on_retry
    if how == "reattach":
        wanted = {name for name, operation in _read(hook, parts).items() if _can_continue(operation)}
        for part in parts:
            if going_on := {name: label for name, label in part.with_labels() if name in wanted}:
                record_started(context, going_on, part.account, part.ownership, part.cancel_on)
        return operations_of_task(context) if parts else []
    if how == "cancel":
        _cancel(hook, parts)
    return []


def _read(hook: EarthEngineHook, parts: list[Record]) -> dict[str, Operation | EarthEngineError]:
    names = names_in(parts)
    found = {str(name): one for name, one in (hook.read_operations(names) if names else {}).items()}
    for other, refused in _of_other_accounts(parts, found):
        found |= {str(name): one for name, one in other.read_operations(refused).items()}
    return found


def _cancel(hook: EarthEngineHook, parts: list[Record]) -> None:
    results = {str(result.name): result for result in hook.cancel_operations(names_in(parts))}
    for other, refused in _of_other_accounts(parts, {name: result.error for name, result in results.items()}):
        results |= {str(result.name): result for result in other.cancel_operations(refused)}
    for result in results.values():
        if not result.outcome.is_fine(not_found_ok=True):
            raise result.error or TransientError("It is still cancelling.", subject=str(result.name))


def _of_other_accounts(parts: list[Record], found: Mapping[str, Any]) -> Iterator[tuple[EarthEngineHook, list[str]]]:
    """Yield a hook of the recorded account for operations that a hook may not read: a task can have several blocks.

    :param found: For each operation what was read, or the error.
    """
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

    for part in parts:
        refused = [name for name in part.operation_names if isinstance(found.get(name), PermissionDeniedError)]
        if refused and part.account is not None:
            yield EarthEngineHook(**part.account), refused


def left_by_the_last_try(context: Context) -> list[Record]:
    """Return the record of this task's last try; or of this try, once it has recorded operations.

    It does not have operations that the task only watches or cancels.
    """
    parts = read_parts(lambda key: _remembered(context, key))
    if not parts and (memory := memory_before_an_upgrade(context)) is not None:
        parts = read_parts(memory.get)
    return [part for part in parts if part.ownership in RESUMED]


def names_in(parts: Iterable[Record]) -> list[str]:
    """Return the operations in records."""
    return [name for part in parts for name in part.operation_names]


def _can_continue(found: Operation | EarthEngineError) -> bool:
    """Whether an operation is active, and is not being cancelled, or has succeeded."""
    if isinstance(found, OperationNotFoundError):
        return False
    if isinstance(found, EarthEngineError):
        raise found
    return found.succeeded or not (found.done or found.state is OperationState.CANCELLING)


def _was_cleared(context: Context, parts: list[Record]) -> bool:
    """Whether the task was cleared since the last try recorded operations.

    A clear raises the stored ``max_tries``, and a clear of a finished run begins the run again. A retry does neither,
    even if ``retries`` has changed in the DAG's file.
    """
    if not parts or parts[0].max_tries is None:
        return False
    before = (parts[0].max_tries, parts[0].run_started)
    return before != (getattr(item_of(context, "ti"), "max_tries", None), run_started(context))


def resume_started(
    context: Context, hook: EarthEngineHook, parts: list[Record], **how: str
) -> tuple[list[str], Asked | None]:
    """Resume the last try's operations like `resume_operations`; also return its `Asked`, if it had started all."""
    left = names_in(parts)
    going_on = _resume(context, hook, parts, **how)
    text = _remembered(context, STARTED_KEY)
    if not (text and isinstance(text, str)):
        return going_on, None
    if going_on and going_on == left and (asked := all_started(context, text)) is not None:
        return asked.names(started_by_task(context)), asked
    remember(context, STARTED_KEY, "")
    return going_on, None


def _remembered(context: Context, key: str) -> Any:
    memory = memory_to_read(context)
    return None if memory is None else memory.get(key)
