"""Store data for a task's next try: in Airflow 3.3's ``task_state_store``; before 3.3, in Airflow Variables.

Airflow deletes a task's XComs when its next try begins, and before 3.3 it keeps no other data of a task. So a task
writes the data that its next try needs, after a failure or a clear, into Variables. The task's process or the collector
deletes them when the task has ended.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Protocol

from airflow_ee_provider.base.airflow_versions import HAS_TASK_STATE_STORE
from airflow_ee_provider.base.process import is_a_task_test, runs_a_task
from airflow_ee_provider.base.stored_values import delete_variable, set_variable, variable
from airflow_ee_provider.base.task_states import own_state
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, STARTED_KEY, part_key

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: The prefix of the Variables' keys.
PREFIX = "earth_engine."


class Memory(Protocol):
    """A store for JSON values, by key."""

    def get(self, key: str) -> Any:
        """Return a value; None if there is none."""

    def set(self, key: str, value: Any) -> None:
        """Write a value."""


class Variables:
    """The Variables of one task instance."""

    def __init__(self, ti: Any) -> None:
        self._prefix = prefix_of(ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1))
        self._description = (
            f"The Earth Engine operations of {ti.task_id} in {ti.dag_id}, {ti.run_id}, for its next try. "
            "airflow-ee-provider deletes it when the task has ended."
        )

    def get(self, key: str) -> Any:
        """Return a value; None if there is none."""
        text = variable(self._prefix + key)
        return None if text is None else json.loads(text)

    def set(self, key: str, value: Any) -> None:
        """Write a value."""
        set_variable(self._prefix + key, json.dumps(value), self._description)

    def delete(self, key: str) -> None:
        """Delete a value."""
        delete_variable(self._prefix + key)


def prefix_of(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    """Return the prefix of a task instance's Variables. It is a hash, since a key has at most 250 characters."""
    index = -1 if map_index is None else map_index
    return f"{PREFIX}{sha256(json.dumps([dag_id, run_id, task_id, index]).encode()).hexdigest()[:32]}."


def memory_to_write(context: Context) -> Memory | None:
    """Return the store for the data that the next try needs; None if no next try can read it."""
    # Only a task's own process may use the store: in a DAG's callback, a read never returns.
    store: Memory | None = context.get("task_state_store")
    ti = context.get("ti")
    if store is not None or ti is None:
        return store
    return Variables(ti) if _uses_variables(ti) else None


def memory_to_read(context: Context) -> Memory | None:
    """Return the store to which the last try has written; None if there is none."""
    memory = memory_to_write(context)
    return None if isinstance(memory, Variables) and context["ti"].try_number <= 1 else memory


def memory_before_an_upgrade(context: Context) -> Memory | None:
    """Return the Variables that a try may have written before an upgrade to Airflow 3.3; None if there can be none."""
    ti = context.get("ti")
    is_retry = HAS_TASK_STATE_STORE and ti is not None and ti.try_number > 1 and runs_a_task(ti)
    return Variables(ti) if is_retry else None


def forget_tries(ti: Any, ends_as: str) -> None:
    """Delete the Variables of a task instance that has ended. If that fails, the collector does it.

    Airflow itself deletes the data in its store.

    :param ends_as: The state that this process has reported. If Airflow has another state, the report was refused, and
        another try may have begun.
    """
    if HAS_TASK_STATE_STORE or not _uses_variables(ti):
        return
    memory = Variables(ti)
    with suppress(Exception):
        if own_state(ti) != ends_as:
            return
        for key in chain((OPERATIONS_KEY,), map(part_key, count(1))):  # Also those of earlier tries.
            if memory.get(key) is None:
                break
            memory.delete(key)
        if memory.get(STARTED_KEY) is not None:
            memory.delete(STARTED_KEY)


def _uses_variables(ti: Any) -> bool:
    """Whether a task instance's process writes Variables. It does so even without ``retries``: a clear adds a try."""
    return not HAS_TASK_STATE_STORE and runs_a_task(ti) and not is_a_task_test(ti)
