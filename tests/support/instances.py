from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TaskInstance:
    """A task instance with XComs, as in a task's context; it knows only its own XComs."""

    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "a"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    task: Any = None
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)


class Store(dict[str, Any]):
    """A task's `task_state_store`."""

    set = dict.__setitem__
