"""Restarts exports after transient failures, within the same try of their task."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model.failures import is_transient
from airflow_ee_provider.tracking.store import recorded_with_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_ee_provider.earth_engine.model.results import OperationDict
    from airflow_ee_provider.earth_engine.protocol.starting import Start


def failed_to_restart(
    context: Context, operations: Sequence[OperationDict], max_restarts: int, starts: Iterable[Start]
) -> list[str]:
    """Return which operations have failed, and are to be started again.

    :param max_restarts: how often each start may be repeated in this try.
    :param starts: that can be repeated.
    """
    if not max_restarts:
        return []
    recorded = recorded_with_keys(context)
    key_of, times = dict(recorded), Counter(key for _, key in recorded if key)
    repeatable = {start.key for start in starts}

    def is_wanted(operation: OperationDict) -> bool:
        error, key = operation["error"], key_of.get(operation["name"], "")
        return error is not None and key in repeatable and times[key] <= max_restarts and is_transient(error)

    return [operation["name"] for operation in operations if is_wanted(operation)]


def tries_so_far(context: Context, max_restarts: int, *, is_restart: bool) -> int:
    """Return how often each export of a task may have been started, this time included; one if there was none yet."""
    try_number = max(1, context["ti"].try_number)
    return try_number * (1 + max_restarts) if is_restart or try_number > 1 else 1
