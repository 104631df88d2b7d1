"""The rows of the lifecycle matrix: an event, the tasks it applies to, the promise, and the component that cancels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import actions
from durations import DEADLINE, EXECUTION_TIMEOUT, TRIGGER_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from matrix_cells import Cell

    from dev.standalone import StandaloneAirflow

#: The promises for an operation: it is cancelled, and the cancel is confirmed; or it is left running, and its task
#: receives its result.
CANCELLED, RESUMED = "cancelled", "resumed"

CANCEL = ("cancel_running", "cancel_deferred")
SENSORS = ("sensor_running", "sensor_rescheduled", "sensor_deferred")
EXPORTS = ("export_running", "export_deferred", "torn_down")
DEFERRED = ("cancel_deferred", "sensor_deferred", "export_deferred", "torn_down")
IN_WORKER = ("cancel_running", "sensor_running", "export_running")
ALL = (*CANCEL, *SENSORS, *EXPORTS)

#: By holder: the promise, if it is not `CANCELLED`.
Promises = dict[str, str]


@dataclass(frozen=True)
class Event:
    """An event that happens to holders, and its promises.

    :param who: the component that cancels the operation, or the reason why none does.
    :param act: triggers the event, and returns its time in seconds since the epoch; None for an outage.
    :param holders: the holders to which it can happen.
    :param promised: the promise by holder, if it is not `CANCELLED`.
    :param ends_by_itself: it happens without an action.
    :param while_working: it happens while the task's function runs.
    :param first: the first Airflow version that has it.
    :param held_as: the task's state in which it happens, if that is not its holder's.
    :param within: seconds within which the cancel is promised.
    :param production: it requires two triggerers, Celery workers or a database server.
    """

    who: str
    act: Callable[[Cell, StandaloneAirflow], float] | None = None
    holders: tuple[str, ...] = ALL
    promised: Promises | None = None
    ends_by_itself: bool = False
    while_working: bool = False
    held_as: str = ""
    within: float = 45.0
    first: tuple[int, int] = (2, 11)
    production: bool = False

    def promise(self, holder: str) -> str:
        """Return the promise for a holder."""
        return (self.promised or {}).get(holder, CANCELLED)

    def is_known_to(self, airflow_version: str) -> bool:
        return _version(airflow_version) >= self.first


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


HOLDS_ON = ("sensor_deferred", "export_deferred", "torn_down", "sensor_running", "export_running")
#: Holders that run in a worker, and can be retried.
WORKING = ("sensor_running", "export_running", "starting")
#: Cancels where none of the task's own code runs: within 90 s on an idle system, later on two busy cores.
COLLECTOR, COLLECTED_WITHIN = "the collector", 150.0
#: The task's process or its trigger cancels; for a sleeping sensor, the collector.
OR_COLLECTOR = "`cancel_on_kill`; for a rescheduled sensor, the collector"


def outage(who: str, holders: tuple[str, ...], **more: Any) -> Event:
    """Return an outage during which held operations keep running; a cancel operator still cancels."""
    return Event(who, None, holders, dict.fromkeys((*HOLDS_ON, *WORKING), RESUMED), **more)


EVENTS: dict[str, Event] = {
    "task_cleared": Event(
        "`cancel_on_kill`; a rescheduled sensor's next try",
        actions.clear,
        (*ALL, "starting"),
        {"sensor_rescheduled": RESUMED, "starting": RESUMED},
    ),
    "run_cleared": Event(
        "`cancel_on_kill`; a rescheduled sensor's next try",
        actions.now(lambda c, a: a.clear_run(c.dag_id, c.run_id)),
        ALL,
        {"sensor_rescheduled": RESUMED},
    ),
    "task_marked_failed": Event(OR_COLLECTOR, actions.mark("failed"), ALL),
    "task_marked_success": Event(OR_COLLECTOR, actions.mark("success"), ALL),
    "run_marked_failed": Event(OR_COLLECTOR, actions.fail_run, ALL),
    "run_deleted": Event(
        "`cancel_on_kill`",
        actions.now(actions.fail_and_delete),
        ("sensor_running", "sensor_deferred", "export_running", "export_deferred"),
    ),
    "dagrun_timeout": Event(
        OR_COLLECTOR,
        actions.run_out_of_time,
        ALL,
        ends_by_itself=True,
    ),
    "dag_paused": Event(
        "nothing while it is paused; then `cancel_on_kill`, at `dagrun_timeout`",
        actions.pause,
        ("sensor_running", "sensor_deferred", "export_running", "export_deferred"),
    ),
    "marked_while_working": Event(
        "`cancel_on_kill`",
        actions.mark("failed"),
        ("export_running", "export_deferred"),
        while_working=True,
    ),
    "execution_timeout": Event(
        "`cancel_on_timeout`",
        lambda c, a: actions.task_started(c, a) + EXECUTION_TIMEOUT,
        ends_by_itself=True,
    ),
    "trigger_timeout": Event(
        "`cancel_on_timeout`, in `resume_execution`",
        lambda c, a: actions.task_started(c, a) + TRIGGER_TIMEOUT,
        ("cancel_deferred", "sensor_deferred"),
        ends_by_itself=True,
    ),
    "exception": Event(
        "`cancel_on_failure`",
        actions.task_started,
        ALL,
        ends_by_itself=True,
    ),
    "task_callback": Event("the task's notifier", actions.task_started, SENSORS, ends_by_itself=True),
    "dag_callback": Event(
        "the DAG's notifier",
        lambda c, a: actions.task_started(c, a) + (8 if c.holder == "started" else 0),
        (*SENSORS, "started"),
        ends_by_itself=True,
    ),
    "timeout_callback": Event(
        "the DAG's notifier; of a sensor that just polls, `cancel_on_kill`",
        actions.run_out_of_time,
        ("sensor_rescheduled", "started"),
        ends_by_itself=True,
    ),
    "worker_sigterm": Event(
        "`cancel_on_kill`",
        actions.now(actions.stop_worker),
        IN_WORKER,
    ),
    "worker_evicted": Event(
        "nothing: the next try continues",
        actions.now(actions.stop_worker),
        ("sensor_running", "export_running"),
        dict.fromkeys(HOLDS_ON, RESUMED),
    ),
    "worker_sigkill": Event(
        "the next try, if there are `retries`",
        actions.now(actions.kill_worker),
        ("cancel_running", "starting"),
        {"starting": RESUMED},
    ),
    "worker_callback": Event(
        "the DAG's notifier, after the heartbeat timeout",
        actions.now(actions.kill_worker),
        ("sensor_running", "export_running", "started"),
    ),
    "worker_lost_sight_of": Event(
        "nothing: the next try continues, and the earlier try does not cancel",
        actions.lose_sight_of_worker,
        ("sensor_running", "export_running"),
        dict.fromkeys(HOLDS_ON, RESUMED),
        first=(3, 0),  # Airflow 2 runs the two tries in parallel, and finally fails the task.
    ),
    "worker_stood_still": Event(
        "nothing: the next try continues, and the earlier try does not cancel",
        actions.let_worker_stand_still,
        ("export_deferred",),
        dict.fromkeys(HOLDS_ON, RESUMED),
        while_working=True,
        first=(3, 0),  # The same.
    ),
    "deadline": Event(
        "the deadline's notifier",
        lambda c, a: actions.run_queued(c, a) + DEADLINE,
        (*SENSORS, "export_running", "export_deferred", "started"),
        ends_by_itself=True,
        first=(3, 1),
    ),
    "triggerer_sigterm": outage("nothing: it keeps running", DEFERRED),
    "triggerer_sigkill": outage("nothing: it keeps running", DEFERRED),
    "scheduler_sigkill": outage(
        "nothing: it keeps running",
        (*DEFERRED, "sensor_running", "export_running"),
    ),
    "cleared_without_triggerer": Event(
        "the next try: continues, or cancels; before 3.3, the collector",
        None,
        DEFERRED,
        {"sensor_deferred": RESUMED},
        within=COLLECTED_WITHIN,
    ),
    "failed_without_triggerer": Event(
        "the teardown; without one, the collector",
        None,
        DEFERRED,
        within=COLLECTED_WITHIN,
    ),
    **{
        f"{name}_between_tries": Event(
            COLLECTOR,
            act,
            ("export_running",),
            held_as="up_for_retry",
            within=COLLECTED_WITHIN,
        )
        for name, act in (
            ("marked", actions.mark("failed")),
            ("run_marked", actions.fail_run),
            (
                "timed_out",
                actions.run_out_of_time,
            ),
            ("fail_fast", actions.fail_other),
        )
    },
    "retry_policy": Event(
        "`cancel_on_failure`",
        actions.task_started,
        ("export_running", "export_deferred"),
        ends_by_itself=True,
        first=(3, 3),
    ),
    "skipped_after_start": Event(
        "`cancel_on_failure`",
        actions.task_started,
        ("export_running", "export_deferred"),
        ends_by_itself=True,
    ),
    "process_sigterm": Event(
        "`cancel_on_kill`",
        actions.end_process_alone,
        ("export_running", "sensor_running"),
        first=(3, 0),  # Airflow 2's handler raises, and the process ends.
    ),
    "own_handler": Event(
        "`cancel_on_kill`",
        actions.mark("failed"),
        ("export_running", "export_deferred"),
        while_working=True,
    ),
    "cleared_while_paused": Event(
        "the collector, or the trigger, which checks once a minute",
        actions.clear_while_paused,
        ("sensor_deferred", "export_deferred"),
        within=COLLECTED_WITHIN,
    ),
    "one_triggerer_sigterm": outage("nothing: the other one takes over", DEFERRED, production=True),
    "one_triggerer_sigkill": outage("nothing: the other one takes over", DEFERRED, production=True),
    "one_triggerer_stands_still": outage(
        "nothing: the other one has taken over",
        DEFERRED,
        production=True,
    ),
    "celery_warm": outage(
        "nothing: they finish their tasks first",
        WORKING,
        production=True,
    ),
    "celery_sigterm_twice": outage(
        "nothing: the next try continues",
        WORKING,
        production=True,
    ),
    "celery_cold": outage(
        "nothing: the next try continues",
        WORKING,
        production=True,
    ),
    "celery_sigkill": outage(
        "nothing: the next try continues",
        WORKING,
        production=True,
    ),
    "redelivered": outage(
        "nothing: Airflow refuses the second one",
        WORKING,
        production=True,
    ),
    "database_away": outage(
        "nothing: it keeps running",
        (*DEFERRED, *WORKING),
        production=True,
    ),
    "broker_away": outage("nothing: it keeps running", (*DEFERRED, *WORKING), production=True),
    "api_server_restarts": outage(
        "nothing: it keeps running",
        (*DEFERRED, *WORKING),
        first=(3, 0),
        production=True,
    ),
    "earth_engine_away": outage(
        "nothing: it keeps running, and the task receives its result",
        (*DEFERRED, *WORKING),
        production=True,
    ),
}

#: The rows in which a DAG has a notifier; in all others, only the holder can cancel.
WITH_DAG_CALLBACK = ("dag_callback", "timeout_callback", "worker_callback", "deadline")
