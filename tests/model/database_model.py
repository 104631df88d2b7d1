"""The model's DAG run as Airflow's database stores it, and the differences between Airflow's versions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_ee_provider.tracking.holders import Holder, Holding
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, read_parts

if TYPE_CHECKING:
    from world import Process, World


@dataclass(frozen=True)
class Version:
    """What differs between Airflow's versions.

    :param tells_triggers: whether a trigger learns of a user's action (`BaseTrigger.on_kill`); seen in 3.3.2.
    :param handler_returns: whether Airflow's handler of SIGTERM returns after `on_kill` (3.x); 2.11's raises.
    :param kill_after: seconds from SIGTERM to SIGKILL: 5 in 3.x, `killed_task_cleanup_time` (60) in 2.11.
    :param has_store: whether it has `task_state_store` (3.3 and later).
    :param stops_after_refusal: whether Airflow calls `before_stopping` even if it has refused a deferral or a retry:
        3.3 does, and 2.11 (``finally``, in `task_command.py`); the versions in between do not.
    """

    name: str
    tells_triggers: bool
    handler_returns: bool
    kill_after: float
    has_store: bool
    stops_after_refusal: bool


VERSIONS = {
    version.name: version
    for version in (
        Version("2.11", False, False, 60.0, False, True),
        # These do not differ in any of this. See `_on_term`, `main` and `finalize` in `task_runner.py`, `kill` in
        # `supervisor.py`, and `cancel_triggers` in `triggerer_job_runner.py`, of 3.0.6, 3.1.8 and 3.2.2.
        *(Version(name, False, True, 5.0, False, False) for name in ("3.0", "3.1", "3.2")),
        Version("3.3", True, True, 5.0, True, True),
    )
}

#: In seconds: until the scheduler learns that a deferred task's process has ended; between two heartbeats of a worker;
#: until a missing heartbeat is noticed; between two passes of the triggerer, and of the scheduler; until a task's next
#: try; and for which a part of Airflow is down.
HEARS_OF_DEFERRAL = 5.0
HEARTBEAT, HEARTBEAT_TIMEOUT, TRIGGERER, SCHEDULER, RETRY_DELAY, AWAY = 2.0, 40.0, 1.0, 1.0, 5.0, 10.0

#: In seconds: how long a suspended worker stands still, so that the next try has begun; and until its next heartbeat
#: when it continues: during its first request to Airflow, or later.
STANDS_STILL, WAKES = 55.0, (0.005, 1.0)

TERMINAL = ("success", "failed", "skipped", "removed")

#: Task instances, as task id and map index: the one that holds operations, another one of the same mapped task, one of
#: another task of the run, and the one that has started what a sensor waits for (`wait_for_completion=False`).
TASK, SIBLING, BYSTANDER, STARTER = ("task", 0), ("task", 1), ("bystander", -1), ("start", -1)


@dataclass
class Row:
    """The task instance in Airflow's database."""

    state: str = "scheduled"
    try_number: int = 0
    max_tries: int = 0
    process: Process | None = None
    next_method: str = ""
    next_kwargs: dict[str, Any] = field(default_factory=dict)
    #: The serialised trigger, and when it times out.
    trigger: Any = None
    trigger_number: int = 0
    trigger_timeout: float = math.inf
    started: float = 0.0
    #: Whether the task's retry policy fails it without another try.
    is_failed_by_policy: bool = False

    @property
    def after_failure(self) -> str:
        """The state after a failed try."""
        return "up_for_retry" if self.try_number <= self.max_tries else "failed"


class TaskInstance:
    """The task instance in a task's context and in a trigger."""

    dag_id, run_id, task = "dag", "run", None
    task_id, map_index = TASK
    #: The state that Airflow sets in the process; the database may have another.
    state = "running"

    def __init__(self, airflow: Database) -> None:
        self.airflow = airflow
        self.try_number, self.max_tries = airflow.row.try_number, airflow.row.max_tries
        self.start_date = datetime.fromtimestamp(airflow.row.started, timezone.utc)

    def get_first_reschedule_date(self, _context: Any) -> datetime:
        return datetime.fromtimestamp(self.airflow.first_started, timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        self.airflow.world.step(f"XCom {key}")
        if self.airflow.row.state == "removed":
            raise AirflowException("API_SERVER_ERROR: Task instance not found")
        self.airflow.xcoms[self.task_id, self.map_index][key] = value

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index), "another task's XCom"
        self.airflow.world.step(f"XCom {key}?")
        return self.airflow.xcoms[task_ids, map_indexes].get(key)


class Store(dict[str, Any]):
    """Airflow 3.3's `task_state_store`."""

    def __init__(self, airflow: Database) -> None:
        super().__init__()
        self._airflow, self._world = airflow, airflow.world

    def set(self, key: str, value: Any) -> None:
        self._world.step(f"store {key}")
        if self._is_refused:
            raise AirflowException("API_SERVER_ERROR: Task instance not found")
        self[key] = value
        self._airflow.remember(value)

    def get(self, key: str, default: Any = None) -> Any:
        self._world.step(f"store {key}?")
        self._airflow.read_in = self._airflow.row.try_number
        return default if self._is_refused else super().get(key, default)

    @property
    def _is_refused(self) -> bool:
        """Whether the calling try's task instance has a new id by now, or was deleted: Airflow does not find it then.

        (See `prepare_db_for_next_try`, `task_state_store.py` and the client's `get` in 3.3.2.)
        """
        row, process = self._airflow.row, self._world.current
        if process is None or not process.kind.startswith("try"):  # Another task of the run.
            return False
        return row.process is not process or row.state in ("up_for_retry", "restarting", "removed")


class Database:
    """One DAG run with one mapped task; of its sibling and of the bystander, only the records exist.

    It also keeps what the invariants need to know, such as when the task last requested its state.
    """

    def __init__(self, world: World, version: Version, retries: int) -> None:
        self.world, self.version = world, version
        self.row = Row(max_tries=retries)
        self.retries = retries
        self.run_state = "running"
        self.run_began = datetime.fromtimestamp(world.now, timezone.utc)
        self.first_started = world.now
        #: By task id and map index.
        self.xcoms: dict[tuple[str, int], dict[str, Any]] = {TASK: {}, SIBLING: {}, BYSTANDER: {}}
        self.store = Store(self)
        #: Airflow's Variables, by key.
        self.variables: dict[str, str] = {}
        #: The operations that a next try can find, and since when.
        self.remembered: dict[str, float] = {}
        self.is_user_action = False
        self.was_taken_for_lost = False
        #: Whether a process was ended before any of the provider's code ran in it.
        self.was_unheard = False
        #: The last try that has read what earlier tries have started.
        self.read_in = 0
        #: When the task last requested its own state; the same before a deferral that was refused; and when it
        #: succeeded.
        self.asked_at, self.refused_after, self.succeeded_at = -math.inf, -math.inf, math.inf
        #: Since when the task no longer needs its earlier operations.
        self.unwanted_since = math.inf
        self.errors: list[str] = []
        #: How often each try has called the task's function.
        self.calls: Counter[int] = Counter()
        #: What is visible of the task from outside, and when.
        self.seen: list[tuple[float, str]] = []

    def remember(self, value: Any) -> None:
        """Note the operations that are stored for the next try."""
        if isinstance(value, dict):
            self.remembered = dict.fromkeys(value.get("operation_names", ()), self.world.now) | self.remembered

    def want_no_more(self) -> None:
        """Note that the task no longer needs its earlier operations."""
        self.unwanted_since = min(self.unwanted_since, self.world.now)

    @property
    def is_2(self) -> bool:
        return self.version.name.startswith("2")

    def recorded(self) -> set[str]:
        """Return the operations that the task has recorded in its latest try."""
        parts = [part for key, part in self.xcoms[TASK].items() if key.startswith(OPERATIONS_KEY)]
        return {name for part in parts if isinstance(part, dict) for name in part["operation_names"]}

    def holdings(self) -> list[Holding]:
        """Return the records of the task instances, with their states."""
        self.world.step("who holds what?")
        found = []
        for (task_id, map_index), xcoms in self.xcoms.items():
            is_task = (task_id, map_index) == TASK
            state = self.row.state if is_task else "running"
            for values in (xcoms, dict(self.store)) if is_task else (xcoms,):
                for record in read_parts(values.get) if state != "removed" else ():
                    holder = Holder("dag", "run", task_id, map_index, 1, state, self.run_state, record.ownership)
                    found.append(Holding(holder, record.operation_names))
        return found

    def context(self) -> dict[str, Any]:
        """Return a task's context."""
        dag_run = SimpleNamespace(start_date=self.run_began, run_id="run", dag_id="dag")
        context: dict[str, Any] = {"ti": TaskInstance(self), "dag": None, "dag_run": dag_run}
        return context | ({"task_state_store": self.store} if self.version.has_store else {})
