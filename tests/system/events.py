"""The rows of the lifecycle matrix: what happens, how it is done, to whom, what is promised, and who answers for it."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from airflow_ee_provider.airflow_api import seconds_since_epoch, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cells import Cell

    from airflow_ee_provider.standalone import StandaloneAirflow

#: Seconds from a worker's SIGTERM to its SIGKILL.
GRACE = 10.0

#: Seconds that a run may take, where a row is about that.
DAGRUN_TIMEOUT, PAUSED_TIMEOUT = 20.0, 60.0

#: Seconds in which Airflow has missed a worker's heartbeats, has begun the next try, and the worker is back.
LOST_SIGHT = 80.0

#: What can become of an operation: cancelled and confirmed; left running, and its end noticed; or left running, because
#: Airflow runs none of our code, until the janitor finds it.
CANCELLED, RESUMED, JANITOR = "cancelled", "resumed", "janitor"

CANCEL = ("cancel_running", "cancel_deferred")
SENSORS = ("sensor_running", "sensor_rescheduled", "sensor_deferred")
EXPORTS = ("export_running", "export_deferred", "torn_down")
DEFERRED = ("cancel_deferred", "sensor_deferred", "export_deferred", "torn_down")
IN_WORKER = ("cancel_running", "sensor_running", "export_running")
ALL = (*CANCEL, *SENSORS, *EXPORTS)

#: Where the holder asks to be told of nothing: the promise for each that is not `CANCELLED`.
Promises = dict[str, str]


@dataclass(frozen=True)
class Event:
    """What happens to holders, and what is promised.

    :param text: for people.
    :param who: who answers for the operation then.
    :param act: lets it happen, and returns when, in seconds since the epoch; None where the triggerer goes.
    :param holders: to whom it can happen.
    :param promised: what becomes of the operation, where that is not `CANCELLED`.
    :param before_3_3: the same before Airflow 3.3, where that differs.
    :param ends_by_itself: nobody has to do anything for it to happen.
    :param while_working: it happens while the task's function works.
    :param first: the first Airflow version that knows it.
    :param production: it happens only where there are two triggerers, Celery's workers, a database's server.
    """

    text: str
    who: str
    act: Callable[[Cell, StandaloneAirflow], float] | None = None
    holders: tuple[str, ...] = ALL
    promised: Promises | None = None
    before_3_3: Promises | None = None
    ends_by_itself: bool = False
    while_working: bool = False
    first: tuple[int, int] = (2, 11)
    production: bool = False

    def promise(self, holder: str, airflow_version: str) -> str:
        """Return what is promised to a holder on a version of Airflow."""
        found = dict(self.promised or {})
        if _version(airflow_version) < (3, 3):
            found |= self.before_3_3 or {}
        return found.get(holder, CANCELLED)

    def is_known_to(self, airflow_version: str) -> bool:
        return _version(airflow_version) >= self.first


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def task_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.task(cell.dag_id, cell.run_id, "hold")["start_date"])


def run_started(cell: Cell, airflow: StandaloneAirflow) -> float:
    return seconds_since_epoch(airflow.run(cell.dag_id, cell.run_id)["start_date"])


def now(action: Callable[[Cell, StandaloneAirflow], object]) -> Callable[[Cell, StandaloneAirflow], float]:
    def act(cell: Cell, airflow: StandaloneAirflow) -> float:
        moment = time.time()
        action(cell, airflow)
        return moment

    return act


def kill_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Kill the task's process and its supervisor."""
    signal_worker(_process(cell, airflow), signal.SIGKILL)


def stop_worker(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Stop them as Kubernetes stops a pod: ask, and kill after a while of grace."""
    process = _process(cell, airflow)
    signal_worker(process, signal.SIGTERM)
    threading.Timer(GRACE, signal_worker, (process, signal.SIGKILL)).start()


def _process(cell: Cell, airflow: StandaloneAirflow) -> psutil.Process:
    return psutil.Process(airflow.task(cell.dag_id, cell.run_id, "hold")["pid"])


def signal_worker(process: psutil.Process, sent: signal.Signals) -> None:
    """Send a signal to a task's process and its supervisor, which runs other tasks once that one has gone."""
    with suppress(psutil.NoSuchProcess):
        if (supervisor := process.parent()) and process.is_running():
            supervisor.send_signal(sent)
            process.send_signal(sent)


def lose_sight_of_worker(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Let the task's supervisor sleep until Airflow has begun the next try, and wake up; returns when it will have."""
    return _stand_still([_process(cell, airflow).parent()], "running", cell, airflow)


def let_worker_stand_still(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Let supervisor and task sleep until the next try is deferred, and wake up; returns when they will have."""
    process = _process(cell, airflow)
    return _stand_still([process.parent(), process], "deferred", cell, airflow)


def _stand_still(processes: list[psutil.Process], until: str, cell: Cell, airflow: StandaloneAirflow) -> float:
    cell.stood_still = time.time()
    for process in processes:
        process.send_signal(signal.SIGSTOP)

    def is_tried_again() -> bool:
        task = airflow.task(cell.dag_id, cell.run_id, "hold")
        return task["try_number"] > 1 and task["state"] == until

    def wake_up() -> None:
        with suppress(TimeoutError):
            wait_until(is_tried_again, timeout=LOST_SIGHT, what="the next try")
        time.sleep(5)
        for process in processes:
            process.send_signal(signal.SIGCONT)

    threading.Thread(target=wake_up).start()
    return time.time() + LOST_SIGHT


def fail_and_delete(cell: Cell, airflow: StandaloneAirflow) -> None:
    """Delete a run, which Airflow 3 refuses while it is active."""
    airflow.mark_run(cell.dag_id, cell.run_id, "failed")
    time.sleep(5)  # The scheduler of 3.1.8 dies of a run that is deleted while it looks at it (StaleDataError).
    airflow.delete_run(cell.dag_id, cell.run_id)


def pause(cell: Cell, airflow: StandaloneAirflow) -> float:
    """Pause the DAG until its run has been over its time for a while; returns when it will go on."""
    airflow.pause(cell.dag_id, paused=True)
    moment = run_started(cell, airflow) + PAUSED_TIMEOUT + 10
    threading.Timer(moment - time.time(), airflow.pause, (cell.dag_id,), {"paused": False}).start()
    return moment


def mark(state: str) -> Callable[[Cell, StandaloneAirflow], float]:
    return now(lambda c, a: a.mark_task(c.dag_id, c.run_id, "hold", state))


fail_run = now(lambda c, a: a.mark_run(c.dag_id, c.run_id, "failed"))
clear = lambda c, a: a.clear(c.dag_id, c.run_id, c.cleared_task)  # noqa: E731

HOLDS_ON = ("sensor_deferred", "export_deferred", "torn_down", "sensor_running", "export_running")
#: What goes on in a worker, and can be tried again.
WORKING = ("sensor_running", "export_running", "starting")
RESCHEDULED_ASLEEP = {"sensor_rescheduled": JANITOR}
FIRST_OF_TWO = dict.fromkeys(SENSORS, JANITOR)

EVENTS: dict[str, Event] = {
    "task_cleared": Event(
        "the task is cleared",
        "`cancel_on_kill`; a rescheduled sensor's next try",
        clear,
        (*ALL, "starting"),
        {"sensor_rescheduled": RESUMED, "starting": RESUMED},
        {"starting": JANITOR},
    ),
    "run_cleared": Event(
        "the whole run is cleared",
        "`cancel_on_kill`; a rescheduled sensor's next try",
        now(lambda c, a: a.clear_run(c.dag_id, c.run_id)),
        ALL,
        {"sensor_rescheduled": RESUMED},
    ),
    "task_marked_failed": Event(
        "the task is marked failed", "`cancel_on_kill`", mark("failed"), ALL, RESCHEDULED_ASLEEP
    ),
    "task_marked_success": Event(
        "the task is marked success", "`cancel_on_kill`", mark("success"), ALL, RESCHEDULED_ASLEEP
    ),
    "run_marked_failed": Event("the run is marked failed", "`cancel_on_kill`", fail_run, ALL, RESCHEDULED_ASLEEP),
    "run_deleted": Event(
        "the run is marked failed and deleted",
        "`cancel_on_kill`",
        now(fail_and_delete),
        ("sensor_running", "sensor_deferred", "export_running", "export_deferred"),
    ),
    "dagrun_timeout": Event(
        "`dagrun_timeout`",
        "`cancel_on_kill`",
        lambda c, a: run_started(c, a) + DAGRUN_TIMEOUT,
        ALL,
        RESCHEDULED_ASLEEP,
        ends_by_itself=True,
    ),
    "dag_paused": Event(
        "the DAG is paused, past `dagrun_timeout`, and unpaused",
        "nobody while it is paused; then `dagrun_timeout`, and `cancel_on_kill`",
        pause,
        ("sensor_running", "sensor_deferred", "export_running", "export_deferred"),
    ),
    "marked_while_working": Event(
        "the task is marked failed while its function works, and has started one of two",
        "`cancel_on_kill`",
        mark("failed"),
        ("export_running", "export_deferred"),
        while_working=True,
    ),
    "execution_timeout": Event(
        "`execution_timeout` (rescheduled: the sensor's `timeout`)",
        "`cancel_on_timeout`",
        lambda c, a: task_started(c, a) + 20,
        ends_by_itself=True,
    ),
    "trigger_timeout": Event(
        "the sensor's or operator's `timeout`, in the triggerer",
        "`cancel_on_timeout`, in `resume_execution`",
        lambda c, a: task_started(c, a) + 10,
        ("cancel_deferred", "sensor_deferred"),
        ends_by_itself=True,
    ),
    "exception": Event(
        "the task fails (one of two operations)",
        "`cancel_on_failure`",
        task_started,
        ALL,
        FIRST_OF_TWO,
        ends_by_itself=True,
    ),
    "task_callback": Event(
        "the same, and the task has a notifier", "the task's notifier", task_started, SENSORS, ends_by_itself=True
    ),
    "dag_callback": Event(
        "the same, and the DAG has a notifier",
        "the DAG's notifier",
        lambda c, a: task_started(c, a) + (8 if c.holder == "started" else 0),
        (*SENSORS, "started"),
        ends_by_itself=True,
    ),
    "timeout_callback": Event(
        "`dagrun_timeout`, and the DAG has a notifier",
        "the DAG's notifier",
        lambda c, a: run_started(c, a) + DAGRUN_TIMEOUT,
        ("sensor_rescheduled", "started"),
        ends_by_itself=True,
    ),
    "worker_sigterm": Event(
        f"the worker gets SIGTERM, and SIGKILL after {GRACE:g} s", "`cancel_on_kill`", now(stop_worker), IN_WORKER
    ),
    "worker_evicted": Event(
        "the same, and the task has `retries`",
        "nobody: the next try goes on with it",
        now(stop_worker),
        ("sensor_running", "export_running"),
        dict.fromkeys(HOLDS_ON, RESUMED),
    ),
    "worker_sigkill": Event(
        "the worker gets SIGKILL",
        "the next try, if there are `retries`",
        now(kill_worker),
        ("cancel_running", "starting"),
        {"starting": RESUMED},
        {"starting": JANITOR},
    ),
    "worker_callback": Event(
        "the worker gets SIGKILL, and the DAG has a notifier",
        "the DAG's notifier, once the heartbeat is missed",
        now(kill_worker),
        ("sensor_running", "export_running", "started"),
    ),
    "worker_lost_sight_of": Event(
        "the worker's heartbeats do not come through until the next try has begun, and then it goes on",
        "the next try goes on with it, and the last one, which is told to end, leaves it alone",
        lose_sight_of_worker,
        ("sensor_running", "export_running"),
        dict.fromkeys(HOLDS_ON, RESUMED),
        first=(3, 0),  # Airflow 2 lets the two go on side by side, and fails the task in the end.
    ),
    "worker_stood_still": Event(
        "the worker stands still while the task's function works, until the next try is deferred, and then it goes on",
        "the next try goes on with it, and the last one, which finds it begun, leaves it alone",
        let_worker_stand_still,
        ("export_deferred",),
        dict.fromkeys(HOLDS_ON, RESUMED),
        while_working=True,
        first=(3, 0),  # The same.
    ),
    "deadline": Event(
        "a deadline is missed (`DeadlineAlert`)",
        "the deadline's notifier",
        lambda c, a: run_started(c, a) + 20,
        (*SENSORS, "export_running", "export_deferred", "started"),
        ends_by_itself=True,
        first=(3, 1),
    ),
    "triggerer_sigterm": Event(
        "the triggerer gets SIGTERM, and comes back",
        "nobody: it runs on",
        None,
        DEFERRED,
        dict.fromkeys(HOLDS_ON, RESUMED),
    ),
    "triggerer_sigkill": Event(
        "the triggerer gets SIGKILL, and comes back",
        "nobody: it runs on",
        None,
        DEFERRED,
        dict.fromkeys(HOLDS_ON, RESUMED),
    ),
    "scheduler_sigkill": Event(
        "the scheduler gets SIGKILL, and comes back",
        "nobody: it runs on",
        None,
        (*DEFERRED, "sensor_running", "export_running"),
        dict.fromkeys(HOLDS_ON, RESUMED),
    ),
    "cleared_without_triggerer": Event(
        "cleared while no triggerer runs",
        "the next try: goes on, or cancels",
        None,
        DEFERRED,
        {"sensor_deferred": RESUMED},
        {"export_deferred": JANITOR, "torn_down": JANITOR},
    ),
    "failed_without_triggerer": Event(
        "the run is marked failed while no triggerer runs",
        "the teardown",
        None,
        DEFERRED,
        {"sensor_deferred": JANITOR, "export_deferred": JANITOR},
    ),
    "one_triggerer_sigterm": Event(
        "one of two triggerers gets SIGTERM",
        "nobody: the other one takes over",
        None,
        DEFERRED,
        dict.fromkeys(HOLDS_ON, RESUMED),
        production=True,
    ),
    "one_triggerer_sigkill": Event(
        "one of two triggerers gets SIGKILL",
        "nobody: the other one takes over",
        None,
        DEFERRED,
        dict.fromkeys(HOLDS_ON, RESUMED),
        production=True,
    ),
    "one_triggerer_stands_still": Event(
        "one of two triggerers stands still for a minute, and goes on",
        "nobody: the other one has taken over",
        None,
        DEFERRED,
        dict.fromkeys(HOLDS_ON, RESUMED),
        production=True,
    ),
    "celery_warm": Event(
        "Celery's workers get SIGTERM (warm), and others take their place",
        "nobody: they end their tasks first",
        None,
        WORKING,
        dict.fromkeys(WORKING, RESUMED),
        production=True,
    ),
    "celery_sigterm_twice": Event(
        "Celery's workers get SIGTERM twice, and others take their place",
        "the next try, which goes on",
        None,
        WORKING,
        dict.fromkeys(WORKING, RESUMED),
        production=True,
    ),
    "celery_cold": Event(
        "Celery's workers get SIGQUIT (cold), and others take their place",
        "the next try, which goes on",
        None,
        WORKING,
        dict.fromkeys(WORKING, RESUMED),
        production=True,
    ),
    "celery_sigkill": Event(
        "Celery's workers get SIGKILL, with all that they run, and others take their place",
        "the next try, which goes on",
        None,
        WORKING,
        dict.fromkeys(WORKING, RESUMED),
        production=True,
    ),
    "redelivered": Event(
        "the broker delivers a task again that still runs (its `visibility_timeout`)",
        "nobody: Airflow refuses the second one",
        None,
        WORKING,
        dict.fromkeys(WORKING, RESUMED),
        production=True,
    ),
    "database_away": Event(
        "PostgreSQL stops, and comes back after a minute",
        "nobody: it runs on",
        None,
        (*DEFERRED, *WORKING),
        dict.fromkeys((*HOLDS_ON, *WORKING), RESUMED),
        production=True,
    ),
    "broker_away": Event(
        "Redis is killed, and comes back after a minute",
        "nobody: it runs on",
        None,
        (*DEFERRED, *WORKING),
        dict.fromkeys((*HOLDS_ON, *WORKING), RESUMED),
        production=True,
    ),
    "api_server_restarts": Event(
        "the API server of the tasks restarts, and is away for 20 s",
        "nobody: it runs on",
        None,
        (*DEFERRED, *WORKING),
        dict.fromkeys((*HOLDS_ON, *WORKING), RESUMED),
        first=(3, 0),
        production=True,
    ),
    "earth_engine_away": Event(
        "Earth Engine does not answer for ten minutes",
        "nobody: it runs on, and its end is noticed",
        None,
        (*DEFERRED, *WORKING),
        dict.fromkeys((*HOLDS_ON, *WORKING), RESUMED),
        production=True,
    ),
}

#: The rows in which a DAG has a notifier; in all others, nobody but the holder is there.
WITH_DAG_CALLBACK = ("dag_callback", "timeout_callback", "worker_callback", "deadline")
