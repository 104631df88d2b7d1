"""What one try of a task leaves to the next: Airflow 3.3's ``task_state_store``; before 3.3, Airflow's Variables.

Airflow deletes a task's XComs as its next try begins, and before 3.3 it keeps nothing else of a task. So a task writes
what a next try, after a failure or a clear, needs into Variables. They are deleted when the task has ended: by its
process, or by the collector.
"""

from __future__ import annotations

import json
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

#: What the Variables' keys begin with.
PREFIX = "earth_engine."


class Memory(Protocol):
    """What can be remembered, by key; values as JSON has them."""

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
    """Return what the keys of a task instance's Variables begin with: a key has at most 250 characters."""
    index = -1 if map_index is None else map_index
    return f"{PREFIX}{sha256(json.dumps([dag_id, run_id, task_id, index]).encode()).hexdigest()[:32]}."


def memory_to_write(context: Context) -> Memory | None:
    """Return where to write what the next try needs; None if no next try can read it."""
    # Only a task's own worker may touch the store: in a DAG's callback, reading it hangs the process.
    store: Memory | None = context.get("task_state_store")
    ti = context.get("ti")
    if store is not None or ti is None:
        return store
    return Variables(ti) if _uses_variables(ti) else None


def memory_to_read(context: Context) -> Memory | None:
    """Return where the last try has written; None if nothing remembers it."""
    memory = memory_to_write(context)
    return None if isinstance(memory, Variables) and context["ti"].try_number <= 1 else memory


def memory_before_an_upgrade(context: Context) -> Memory | None:
    """Return where a try has written if Airflow was upgraded to 3.3 after it; None where that cannot be."""
    ti = context.get("ti")
    is_retry = HAS_TASK_STATE_STORE and ti is not None and ti.try_number > 1 and runs_a_task(ti)
    return Variables(ti) if is_retry else None


def forget_tries(ti: Any, ends_as: str) -> None:
    """Delete the Variables of a task instance that has ended; Airflow itself forgets what its store has.

    :param ends_as: its state, as this process has reported it: Airflow may have begun another try, and refused that.
    """
    if HAS_TASK_STATE_STORE or not _uses_variables(ti) or own_state(ti) != ends_as:
        return
    memory = Variables(ti)
    for key in chain((OPERATIONS_KEY,), map(part_key, count(1))):  # Those of earlier tries as well.
        if memory.get(key) is None:
            break
        memory.delete(key)
    if memory.get(STARTED_KEY) is not None:
        memory.delete(STARTED_KEY)


def _uses_variables(ti: Any) -> bool:
    """Whether a task instance's process remembers by Variables; also without ``retries``, since a clear adds a try."""
    return not HAS_TASK_STATE_STORE and runs_a_task(ti) and not is_a_task_test(ti)
