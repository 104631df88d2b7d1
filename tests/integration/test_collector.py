"""The collector, on Airflow's database and the emulator: what it finds and cancels, and how many requests it sends."""

from __future__ import annotations

import json
import logging
import os
import threading
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from stored import delete_xcoms, forget_what_is_stored, has_stored
from task_states import forget_runs, set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, HAS_TASK_STATE_STORE, database_of_its_own
from airflow_ee_provider.base.stored_values import xcom_table
from airflow_ee_provider.collector import cancels
from airflow_ee_provider.collector import collector as collecting
from airflow_ee_provider.collector.look import Instance
from airflow_ee_provider.collector.thread import is_first, make_collector
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.tracking import retry_memory
from airflow_ee_provider.tracking.audit import COLLECTOR, cancelled_automatically
from airflow_ee_provider.tracking.overview import read_overview
from airflow_ee_provider.tracking.record import OPERATIONS_KEY
from airflow_ee_provider.tracking.record_tables import Key
from airflow_ee_provider.tracking.store import record_started

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.collector.collector import Collector
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.tracking.record import Record

GRACE = 30.0
ACCOUNT = {"earth_engine_conn_id": "earth_engine_default", "project_id": None, "impersonation_chain": None}


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Collector:
    monkeypatch.setattr(collecting, "LONGEST_RUN", timedelta(minutes=10))
    made = make_collector(database_of_its_own(), GRACE)
    made.now, made.sleep, made.cancels.now = clock, clock.sleep, clock
    return made


def change(model: str, **values: Any) -> None:
    """Change all rows of a table, as Airflow's scheduler does."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query({"run": DagRun, "task": TaskInstance}[model]).update(values)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `OwningInstance` use Variables: in Airflow 3.0 to 3.2 a task asks its supervisor, and there is none here."""
    if not AIRFLOW_3 or HAS_TASK_STATE_STORE:
        return
    from airflow.models.variable import Variable

    monkeypatch.setattr(retry_memory, "variable", lambda key: Variable.get(key, default_var=None))
    monkeypatch.setattr(retry_memory, "set_variable", Variable.set)
    monkeypatch.setattr(retry_memory, "delete_variable", Variable.delete)


class OwningInstance:
    """The task instance of the DAG `owned`, in a process that records more operations."""

    dag_id, task_id, map_index, try_number = "owned", "task", -1, 1

    def __init__(self) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            [row] = session.execute(xcom_table().select().where(xcom_table().c.key == OPERATIONS_KEY)).mappings()
            [self.run_id] = session.execute(select(TaskInstance.run_id)).scalars()
        self._row = {name: value for name, value in row.items() if name != "id"}  # Airflow 3.4 gives each XCom an id.

    def xcom_push(self, key: str, value: Any) -> None:
        from airflow.utils.session import create_session

        stored = value if AIRFLOW_3 else json.dumps(value).encode()
        row = {**self._row, "key": key, "value": stored, "timestamp": datetime.now(timezone.utc)}
        with create_session() as session:
            session.execute(xcom_table().delete().where(xcom_table().c.key == key))
            session.execute(xcom_table().insert().values(row))

    def xcom_pull(self, task_ids: str, map_indexes: int, key: str) -> Any:
        from airflow.utils.session import create_session

        del task_ids, map_indexes
        with create_session() as session:
            rows = session.execute(xcom_table().select().where(xcom_table().c.key == key)).mappings()
            values = [row["value"] if AIRFLOW_3 else json.loads(row["value"]) for row in rows]
        return values[0] if values else None


def requests(emulator: Emulator) -> int:
    return len(emulator.service.journal)


def log_states(dag_id: str, *states: str) -> None:
    """Replace a DAG's entries in Airflow's audit log with these states of its task, in this order."""
    from airflow.models import Log
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        session.query(Log).filter(Log.dag_id == dag_id).delete()
        ti = session.query(TaskInstance).filter(TaskInstance.dag_id == dag_id).one()
        for state in states:
            event, _, fields = state.partition(" ")
            row = Log(event, ti, extra=fields or None)
            if "dag" in event:
                row.task_id = row.map_index = None
            session.add(row)
            session.flush()


def look_twice(collector: Collector, clock: Clock) -> None:
    """Let the collector look, and look again after the grace period."""
    collector.look()
    clock.now += GRACE + 1
    collector.look()


@pytest.mark.parametrize(
    "states",
    [
        ("failed", "running"),
        ("failed", "failed"),
        ("skipped", "failed"),
        ("up_for_retry", "failed"),
        ("deferred", "success"),
        ("success", "running"),
    ],
)
def test_an_operation_that_no_task_needs_is_cancelled_after_the_grace_period(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator, states: tuple[str, str]
) -> None:
    bystander = earth_engine_emulator.service.add("a colleague's")
    set_states("owned", *states)

    due = collector.look()
    assert due is not None
    assert due <= GRACE
    assert requests(earth_engine_emulator) == 0
    clock.now += GRACE + 1
    collector.look()

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"
    assert earth_engine_emulator.service.state(bystander) == "RUNNING"
    sent = requests(earth_engine_emulator)
    clock.now += 3600
    collector.look()
    assert requests(earth_engine_emulator) == sent, "What is dealt with is not asked about again."


@pytest.mark.parametrize(
    ("logged", "state"),
    [
        (("running", "up_for_reschedule"), "CANCELLED"),
        (("running", "up_for_retry"), "CANCELLED"),
        (("running",), "RUNNING"),
        (("deferred", "running"), "RUNNING"),
        (("running", 'patch_task_instance {"new_state": "failed"}'), "CANCELLED"),
        (("running", 'api.patch_task_instance {"new_state": "failed", "dry_run": false}'), "CANCELLED"),
        (("running", 'failed {"confirmed": "true", "past": "false"}'), "CANCELLED"),
        (("running", "failed"), "RUNNING"),
        (("running", 'patch_dag_run {"state": "failed", "method": "PATCH"}'), "CANCELLED"),
        (("running", 'api.update_dag_run_state {"state": "failed"}'), "CANCELLED"),
        (("running", 'dagrun_failed {"confirmed": "true"}'), "CANCELLED"),
        (("running", 'dagrun_failed {"confirmed": "false"}'), "RUNNING"),
        (("running", 'patch_dag_run {"note": "failed", "method": "PATCH"}'), "RUNNING"),
        (('patch_dag_run {"state": "failed", "method": "PATCH"}', "running"), "RUNNING"),
        ((), "RUNNING"),
    ],
)
def test_the_audit_log_says_whether_a_failed_task_was_marked_while_it_waited(
    collector: Collector,
    clock: Clock,
    earth_engine_emulator: Emulator,
    run_owner: Callable[..., str],
    *,
    logged: tuple[str, ...],
    state: str,
) -> None:
    """Without ``cancel_on_failure``, a user's mark is a reason to cancel, and a lost worker is not."""
    name = run_owner("owned_until_killed")
    log_states("owned_until_killed", *logged)
    set_states("owned_until_killed", "failed", "running")

    for _ in range(2):
        look_twice(collector, clock)

    assert earth_engine_emulator.service.state(name) == state


def test_the_collector_reports_each_cancel_and_its_reason(
    owned: str,
    collector: Collector,
    clock: Clock,
    earth_engine_emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bystander = earth_engine_emulator.service.add("a colleague's")
    set_states("owned", "failed", "running")

    with caplog.at_level(logging.INFO, logger="airflow_ee_provider"):
        look_twice(collector, clock)

    [line] = [record.getMessage() for record in caplog.records if "no task needs" in record.getMessage()]
    assert line.startswith("owned.task of ")
    assert line.endswith(f" is failed, and no task needs its operations. Cancelling {owned}.")
    from airflow.models import Log
    from airflow.utils.session import create_session

    with create_session() as session:
        row = session.query(Log).filter(Log.owner == COLLECTOR).order_by(Log.id.desc()).first()
        assert (row.dag_id, row.task_id, json.loads(row.extra)["operation"]) == ("owned", "task", owned)
        reasons = cancelled_automatically(session, datetime.now(timezone.utc) - timedelta(minutes=5))
    assert reasons[owned] == "its task is failed"
    shown = {
        one["name"]: one
        for one in (op.as_dict() for op in read_overview(["earth_engine_default"], also_ended=True).operations)
    }
    assert shown[owned]["cancelled_because"] == "its task is failed"
    assert shown[bystander]["cancelled_because"] is None


@pytest.mark.parametrize("task_state", ["running", "deferred", "up_for_retry", "scheduled"])
def test_an_operation_that_a_task_needs_keeps_running_and_costs_no_request(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator, task_state: str
) -> None:
    set_states("owned", task_state, "running")

    for _ in range(5):
        look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "RUNNING"
    assert requests(earth_engine_emulator) == 0


def test_the_operation_of_a_settled_task_costs_no_request(
    collector: Collector, clock: Clock, earth_engine_emulator: Emulator, run_owner: Callable[..., str]
) -> None:
    run_owner("owned_and_settled")
    set_states("owned_and_settled", "failed", "running")

    look_twice(collector, clock)

    assert requests(earth_engine_emulator) == 0
    assert len(collector.memory) == 0


def test_the_collector_cancels_the_last_trys_operations_after_a_clear_but_not_after_a_retry(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    set_states("owned", "up_for_retry", "running")
    collector.look()
    delete_xcoms()
    forget_what_is_stored()
    change("task", state="running", try_number=2)
    look_twice(collector, clock)
    assert earth_engine_emulator.service.state(owned) == "RUNNING"

    change("task", max_tries=3)
    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


def test_an_operation_only_in_task_state_store_is_cancelled_if_the_next_try_records_nothing(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    if not has_stored():
        pytest.skip("This Airflow has no task_state_store, or dag.test() does not use it.")
    delete_xcoms()
    set_states("owned", "running", "running")
    change("task", try_number=2)
    look_twice(collector, clock)
    assert requests(earth_engine_emulator) == 0

    set_states("owned", "failed", "running")
    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


def test_the_operation_of_a_deleted_run_is_cancelled(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    set_states("owned", "deferred", "running")
    collector.look()

    forget_runs()
    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


@pytest.fixture
def needed_by_another(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]
) -> str:
    """An operation whose own task has failed, and that a task of another run needs; the collector has seen both."""
    run_dag("owned_too", owned)
    set_states("owned", "failed", "failed")
    set_states("owned_too", "running", "running")
    look_twice(collector, clock)
    assert requests(earth_engine_emulator) == 0
    return owned


def test_an_operation_of_two_tasks_is_cancelled_once_neither_needs_it(
    needed_by_another: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    set_states("owned_too", "failed", "failed")
    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(needed_by_another) == "CANCELLED"


def test_a_mark_of_the_sensor_cancels_an_export_for_which_its_start_task_did_not_wait(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    run_dag("held_handed_off", owned)
    set_states("held_handed_off", "success", "running")
    set_states("owned", "success", "running")
    look_twice(collector, clock)
    assert requests(earth_engine_emulator) == 0, "A later task of the run may still wait for it."
    set_states("held_handed_off", "success", "success")
    set_states("owned", "success", "success")
    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


@pytest.mark.usefixtures("needed_by_another")
def test_the_grace_period_begins_when_the_last_task_stops_needing_the_operation(
    collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    set_states("owned_too", "failed", "failed")
    collector.look()
    assert requests(earth_engine_emulator) == 0
    set_states("owned_too", "running", "running")
    look_twice(collector, clock)

    assert requests(earth_engine_emulator) == 0


@pytest.mark.usefixtures("variables")
def test_an_operation_keeps_running_while_the_next_poke_has_not_yet_rewritten_its_record(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    """Before 3.3, Airflow deletes a rescheduled sensor's XComs as each poke begins; here, a user has cleared it."""
    own = OwningInstance()
    set_states("owned", "up_for_reschedule", "running")
    collector.look()
    own.try_number = 2
    for _ in range(3):
        delete_xcoms()
        forget_what_is_stored()
        change("task", state="running", try_number=2, max_tries=1)
        collector.look()
        another_process: Any = {"ti": copy(own)}
        record_started(another_process, {owned: ""}, ACCOUNT, cancel_on=("kill",))
        look_twice(collector, clock)
        set_states("owned", "up_for_reschedule", "running")
        look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "RUNNING"
    assert requests(earth_engine_emulator) == 0


def test_the_collector_tries_again_if_earth_engine_was_unreachable(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_states("owned", "failed", "running")
    connection = json.loads(os.environ["AIRFLOW_CONN_EARTH_ENGINE_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps({**connection, "host": "http://127.0.0.1:1"}))
    look_twice(collector, clock)
    assert earth_engine_emulator.service.state(owned) == "RUNNING"

    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
    collector.look()
    assert earth_engine_emulator.service.state(owned) == "RUNNING", "It waits before it asks again."
    clock.now += 16
    collector.look()

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


@pytest.mark.usefixtures("variables")
def test_operations_recorded_between_two_looks_are_found_although_the_task_has_deferred_since(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    service = earth_engine_emulator.service
    names = [owned, *(service.add("ndvi") for _ in range(250))]
    own: Any = {"ti": OwningInstance()}
    set_states("owned", "running", "running")
    record_started(own, dict.fromkeys(names[:220], ""), ACCOUNT, cancel_on=("kill", "failure", "timeout"))
    collector.look()

    record_started(own, dict.fromkeys(names, ""), ACCOUNT, cancel_on=("kill", "failure", "timeout"))
    set_states("owned", "deferred", "running")
    collector.look()
    set_states("owned", "failed", "running")
    look_twice(collector, clock)

    assert {service.state(name) for name in names} <= {"CANCELLED", "CANCELLING"}


def test_an_operation_of_a_project_that_is_not_configured_is_not_cancelled(
    collector: Collector,
    clock: Clock,
    earth_engine_emulator: Emulator,
    run_owner: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_owner("owned", project="another-project")
    set_states("owned", "failed", "running")

    look_twice(collector, clock)

    assert requests(earth_engine_emulator) == 0
    assert "Not cancelling" in caplog.text
    assert "their project is neither that of the connection" in caplog.text


def test_the_first_look_finds_operations_of_runs_that_ended_before_it(
    owned: str, collector: Collector, clock: Clock, earth_engine_emulator: Emulator
) -> None:
    set_states("owned", "failed", "failed")
    change("run", updated_at=datetime.now(timezone.utc) - timedelta(minutes=5))

    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "CANCELLED"


@pytest.mark.usefixtures("owned")
def test_ended_tasks_are_forgotten_and_a_look_at_an_idle_airflow_sends_few_statements(
    collector: Collector, clock: Clock
) -> None:
    set_states("owned", "failed", "failed")
    look_twice(collector, clock)
    clock.now += 700
    collector.look()
    collector.look()

    before = collector.database.statements
    collector.look()

    assert len(collector.memory) == 0
    assert collector.database.statements - before <= 3


def make_jobs(*jobs: tuple[str, str, int]) -> list[int]:
    """Insert jobs, each with a type, a state and the age of its heartbeat in seconds; return their ids."""
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session

    with create_session() as session:
        session.execute(Job.__table__.delete())
        for number, (job_type, state, age) in enumerate(jobs, start=1):
            heartbeat = datetime.now(timezone.utc) - timedelta(seconds=age)
            row = {"id": number, "job_type": job_type, "state": state, "latest_heartbeat": heartbeat}
            session.execute(Job.__table__.insert().values(**row))  # `Job()` would begin a collector.
    return list(range(1, len(jobs) + 1))


@pytest.mark.parametrize(
    ("jobs", "first"),
    [
        ([("TriggererJob", "running", 0), ("TriggererJob", "running", 0), ("SchedulerJob", "running", 0)], 0),
        ([("SchedulerJob", "running", 0), ("TriggererJob", "running", 0)], 1),
        ([("TriggererJob", "running", 600), ("TriggererJob", "running", 5)], 1),
        ([("TriggererJob", "success", 0), ("SchedulerJob", "running", 0), ("SchedulerJob", "running", 0)], 1),
        ([("DagProcessorJob", "running", 0), ("SchedulerJob", "running", 0)], 1),
    ],
)
def test_only_the_oldest_triggerer_collects_or_the_oldest_scheduler_if_there_is_no_triggerer(
    jobs: list[tuple[str, str, int]], first: int
) -> None:
    engine = database_of_its_own()
    made = make_jobs(*jobs)

    collecting_ones = [n for n, job in enumerate(jobs) if job[1] == "running" and is_first(engine, made[n], job[0])]

    assert first in collecting_ones
    alive = [n for n in collecting_ones if jobs[n][2] < 60 and jobs[n][0] in ("TriggererJob", "SchedulerJob")]
    assert alive == [first]


class Began:
    """Counts the threads that are started, and starts none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(threading.Thread, "start", self._start)

    def _start(self) -> None:
        self.count += 1


def test_a_job_starts_the_collectors_thread_and_a_task_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.jobs.job import Job
    from airflow.listeners.listener import get_listener_manager

    monkeypatch.setenv("AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS", "True")
    began = Began(monkeypatch)
    get_listener_manager().hook.on_starting(component=object())
    assert began.count == 0

    Job()  # Airflow's own call.

    assert began.count == 1


def test_the_collector_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.jobs.job import Job

    monkeypatch.setenv("AIRFLOW__EARTH_ENGINE__CANCEL_ORPHANS", "False")
    began = Began(monkeypatch)

    Job()

    assert began.count == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"account": ["not", "an", "account"]},
        {"try_number": "two"},
        {"run_started": "yesterday"},
        {"ownership": "destroy"},
        {"task_id": "another_task"},
        {"operation_names": ["no name"]},
        {"cancel_on": 7},
        {"parts_before": 10**9},
        {"parts_before": "two"},
    ],
)
def test_a_forged_record_in_an_xcom_cancels_nothing(
    owned: str,
    collector: Collector,
    clock: Clock,
    earth_engine_emulator: Emulator,
    changed: dict[str, Any],
) -> None:
    from airflow.utils.session import create_session

    set_states("owned", "failed", "running")
    [found] = seen_by(collector)
    forged = {**found.as_json(), **changed}
    value: Any = forged if AIRFLOW_3 else json.dumps(forged).encode()
    with create_session() as session:
        table = xcom_table()
        session.execute(table.update().where(table.c.key == OPERATIONS_KEY).values(value=value))

    look_twice(collector, clock)

    assert earth_engine_emulator.service.state(owned) == "RUNNING"
    assert requests(earth_engine_emulator) == 0


def seen_by(collector: Collector) -> list[Record]:
    """Return the records that a look finds."""
    seen = collector.database.look(0)
    records = collector.database.records(seen.instances)
    return [part for parts in records.values() if not isinstance(parts, Exception) for part in parts]


def test_unknown_operation_names_cost_few_requests_per_look(
    earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    monkeypatch.setattr(cancels, "MOST_GETS", 20)
    own = service.add("ndvi")
    names = [*(f"projects/earth-demo/operations/GONE{number}" for number in range(50)), own]
    instance = Instance(Key(1, "t", -1), "d", "r", "failed", None, "failed", 1, 0)
    unneeded = cancels.Unneeded(instance, "has failed", tuple((None, name) for name in names))
    collects = cancels.Cancels(logging.getLogger(), EarthEngineHook, lambda _: None, clock)

    requests, done = [], set[str]()
    while done != set(names) and len(requests) < 3:
        before = len(service.journal)
        done |= collects.cancel([replace(unneeded, operations=tuple((None, n) for n in names if n not in done))])
        requests.append(len(service.journal) - before)

    assert service.state(own) == "CANCELLED"
    assert done == set(names)
    assert len(requests) == 3
    assert max(requests) < 20 + 10
