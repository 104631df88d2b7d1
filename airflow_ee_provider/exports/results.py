"""What is said and returned of operations that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.ee_client.objects import with_operations
from airflow_ee_provider.earth_engine.model.log_text import are_few, counted, some_lines
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.lifecycle.waiting_task import line_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
    from airflow_ee_provider.tracking.requests import Asked


def value_of(
    hook: EarthEngineHook, asked: Asked, operations: Sequence[OperationDict], started: Mapping[str, str]
) -> Any:
    """Return a function's value with its operations in their places.

    :param started: the latest operation of each `Start.key`.
    """
    found = {operation["name"]: operation for operation in operations}
    names = [one if "/" in one else started[one] for one in asked.in_value]
    if others := [name for name in names if name not in found]:  # The function has dealt with them itself.
        for name, operation in hook.read_operations(others).items():
            known = operation if isinstance(operation, Operation) else Operation.unread(name)
            found[str(name)] = known.as_dict()
    return with_operations(asked.value, lambda number: found[names[number]])


def lines_of(operations: Sequence[OperationDict]) -> list[str]:
    """Say how operations have ended: a line for each of a few; of many the numbers, and what has failed."""
    if are_few(len(operations)):
        return [line_of(operation) for operation in operations]
    used = sum(operation["batch_eecu_usage_seconds"] or 0.0 for operation in operations)
    total = f"{len(operations):,} exports: {counted(o['state'] for o in operations)}; {used:,.0f} EECU-seconds"
    return [total, *some_lines([line_of(operation) for operation in operations if operation["error"]])]
