"""The provider's own collector, on the database of the model."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from database_model import STARTER, TASK, TERMINAL

from airflow_ee_provider.collector.cancels import Cancels
from airflow_ee_provider.collector.collector import Collector
from airflow_ee_provider.collector.look import Instance, Seen
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking.notes import SETTLED_KEY, settled_try
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record, read_parts
from airflow_ee_provider.tracking.record_tables import Key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from airflow_model import Airflow

#: The id of the only run.
RUN = 1


class CollectorDatabase:
    """Replaces the database that the collector reads."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow

    @contextmanager
    def connected(self) -> Iterator[None]:
        yield

    @property
    def _is_there(self) -> bool:
        return self.airflow.row.state != "removed"

    @property
    def _run_state(self) -> str:
        """The run's state: the run ends with its task."""
        state = self.airflow.row.state
        ends = self.airflow.run_state == "running" and state in TERMINAL
        return ("failed" if state == "failed" else "success") if ends else self.airflow.run_state

    @property
    def _is_active(self) -> bool:
        return self._run_state in ("queued", "running")

    def active_runs(self, _newer_than: int) -> dict[int, bool]:
        return {RUN: self._is_active} if self._is_there else {}

    def newest_run(self) -> int:
        return RUN if self._is_there else 0

    def changed_runs(self, _since: Any, below: int | None = None, _most: int = 0) -> list[int]:
        return [RUN] if self._is_there and (below is None or below > RUN) else []

    def look(self, _newer_than: int, _named: Collection[int] = ()) -> Seen:
        self.airflow.world.step("the collector looks")
        if not self._is_there:
            return Seen(frozenset(), frozenset(), ())
        runs = frozenset({RUN})
        found = tuple(one for one in map(self._instance, self._keys()) if one.recorded_at is not None)
        return Seen(runs if self._is_active else frozenset(), frozenset() if self._is_active else runs, found)

    def look_at(self, _runs: Collection[int]) -> Seen:
        return self.look(0)

    def again(self, keys: Iterable[Key]) -> dict[Key, Instance]:
        return {key: self._instance(key) for key in keys} if self._is_there else {}

    def records(self, instances: Iterable[Instance]) -> dict[Key, list[Record] | Exception]:
        return {one.key: read_parts(self._values(one.key, stored=one.stored).get) for one in instances}

    def was_ended_by_a_user(self, _one: Instance) -> bool:
        return False  # Each task of the model has cancel_on_failure: the answer makes no difference.

    def _keys(self) -> list[Key]:
        return [Key(RUN, *instance) for instance in self.airflow.xcoms]

    def _values(self, key: Key, *, stored: bool) -> dict[str, Any]:
        return dict(self.airflow.store) if stored else self.airflow.xcoms[key.task_id, key.map_index]

    def _instance(self, key: Key) -> Instance:
        airflow, row = self.airflow, self.airflow.row
        values, is_task = self._values(key, stored=False), (key.task_id, key.map_index) == TASK
        stored = is_task and airflow.version.has_store and OPERATIONS_KEY not in values
        recorded: Any = self._values(key, stored=stored).get(OPERATIONS_KEY)
        # The other task instances stand for tasks of another, active run.
        known = Instance(key, "dag", "run", "running", airflow.run_began, "running", 1, 0)
        if (key.task_id, key.map_index) == STARTER:
            known = replace(known, state="success", run_state=self._run_state)
        if is_task:
            state = None if row.state == "none" else row.state
            tries = {"try_number": row.try_number, "max_tries": row.max_tries}
            known = replace(known, state=state, run_state=self._run_state, **tries)
        return replace(
            known,
            recorded_at=None if recorded is None else repr(recorded),  # Any value that differs between records.
            settled_try=settled_try(values.get(SETTLED_KEY)),
            stored=stored,
        )


def make_collector(airflow: Airflow) -> Collector:
    """Return the collector of a history."""
    log, world = logging.getLogger("collector"), airflow.world

    def now() -> float:
        return world.now

    cancels = Cancels(log, EarthEngineHook, lambda _rows: None, now)
    database: Any = CollectorDatabase(airflow)
    return Collector(database, cancels, log, now=now, sleep=world.sleep)
