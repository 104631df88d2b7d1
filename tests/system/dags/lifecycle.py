"""One DAG for each cell of the lifecycle matrix: a holder of an operation, and an event.

Only the holder can cancel, except in the rows that are about a callback. Another task of the run holds an operation of
its own, which must keep running.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task, task_group
from durations import DAGRUN_TIMEOUT, DEADLINE, EXECUTION_TIMEOUT, TRIGGER_TIMEOUT
from policies import NO_TRY_AFTER_VALUE_ERROR

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
)
from airflow_ee_provider.records import record_operations, resume_operations
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

try:
    from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
except ImportError:  # Airflow before 3.1 has no deadlines.
    DeadlineAlert = None

try:
    from airflow.sdk import get_parsing_context
except ImportError:
    from airflow.utils.dag_parsing_context import get_parsing_context

#: Airflow retries the task after it has lost a worker.
AGAIN: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}

NAMES = "{{ dag_run.conf['operation_names'] }}"

#: Events after which Airflow retries the task.
TRIED_AGAIN = (
    "worker_evicted",
    "worker_lost_sight_of",
    "worker_stood_still",
    "celery_warm",
    "celery_sigterm_twice",
    "celery_cold",
    "celery_sigkill",
    "redelivered",
    "database_away",
    "broker_away",
    "api_server_restarts",
    "process_sigterm",
    "retry_policy",
)

#: Events that happen while the task waits ten minutes for its next try.
BETWEEN_TRIES = (
    "marked_between_tries",
    "run_marked_between_tries",
    "timed_out_between_tries",
    "fail_fast_between_tries",
)
EXPORTING = ("export_running", "export_deferred")
LATER: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(minutes=10)}

EVENTS = (
    "task_cleared",
    "run_cleared",
    "task_marked_failed",
    "task_marked_success",
    "run_marked_failed",
    "run_deleted",
    "dagrun_timeout",
    "dag_paused",
    "marked_while_working",
    "execution_timeout",
    "trigger_timeout",
    "exception",
    "task_callback",
    "dag_callback",
    "timeout_callback",
    "worker_sigterm",
    "worker_sigkill",
    "worker_callback",
    "triggerer_sigterm",
    "triggerer_sigkill",
    "scheduler_sigkill",
    "cleared_without_triggerer",
    "failed_without_triggerer",
    "deadline",
    "left_alone",
    "one_triggerer_sigterm",
    "one_triggerer_sigkill",
    "one_triggerer_stands_still",
    "earth_engine_away",
    "skipped_after_start",
    "own_handler",
    "cleared_while_paused",
    *BETWEEN_TRIES,
    *TRIED_AGAIN,
)


def sensor(event: str, *, deferrable: bool = False, mode: str = "poke") -> None:
    told = event != "left_alone"
    how: dict[str, Any] = {"deferrable": deferrable, "mode": mode, "cancel_on_kill": told, "cancel_on_timeout": told}
    how["cancel_on_failure"] = event == "exception"
    # The event has to happen while a sensor sleeps; and Airflow loses a sensor that is rescheduled too often.
    how["poll_interval"] = 12 if mode == "reschedule" else 1
    if event == "trigger_timeout":
        how["timeout"] = TRIGGER_TIMEOUT
    elif event == "execution_timeout" and mode == "reschedule":
        how["timeout"] = EXECUTION_TIMEOUT
    elif event == "execution_timeout":
        how["execution_timeout"] = timedelta(seconds=EXECUTION_TIMEOUT)
    elif event in TRIED_AGAIN:
        how |= AGAIN
    elif event == "task_callback":
        how["on_failure_callback"] = EarthEngineCancelOperationsNotifier()
    EarthEngineOperationsSensor(task_id="hold", operation_names=NAMES, **how)


def cancel(event: str, *, deferrable: bool) -> None:
    how: dict[str, Any] = {"deferrable": deferrable}
    if event == "trigger_timeout":
        how["cancel_timeout"] = TRIGGER_TIMEOUT
    elif event == "execution_timeout":
        how["execution_timeout"] = timedelta(seconds=EXECUTION_TIMEOUT)
    EarthEngineCancelOperationsOperator(task_id="hold", operation_names=NAMES, poll_interval=1, **how)


#: Events for which the function itself starts its export.
STARTING_ITSELF = (
    "marked_while_working",
    "worker_stood_still",
    "own_handler",
    "retry_policy",
    "skipped_after_start",
    *BETWEEN_TRIES,
)


def then(event: str, try_number: int) -> None:
    """Do what the event requires of the function, once it has started its export."""
    if event == "retry_policy":
        raise ValueError("An error after which the policy lets no try follow.")
    if event == "skipped_after_start":
        raise AirflowSkipException("There is nothing to wait for.")
    if event in BETWEEN_TRIES:
        raise RuntimeError("An error after which another try follows, in ten minutes.")
    stopped: list[int] = []
    if event == "own_handler":  # A graceful stop; the handler is never removed.
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    for _ in range(40 if try_number == 1 else 5):  # Longer than a busy machine needs for the event.
        if not stopped:
            time.sleep(1)


def export(event: str, *, deferrable: bool) -> Any:
    """Start an export and wait for it; for the event ``exception``, also start one that fails."""
    timeout = timedelta(seconds=EXECUTION_TIMEOUT) if event == "execution_timeout" else None

    again = AGAIN if event in TRIED_AGAIN else LATER if event in BETWEEN_TRIES else {}
    if event == "retry_policy" and NO_TRY_AFTER_VALUE_ERROR:
        again = {**LATER, **NO_TRY_AFTER_VALUE_ERROR}

    @task.earth_engine(task_id="hold", deferrable=deferrable, poll_interval=1, execution_timeout=timeout, **again)
    def hold(ti: Any, dag_run: Any) -> Any:
        import ee

        if dag_run.conf.get("is_bystander"):
            return None
        if event in STARTING_ITSELF:
            ee.batch.Export.image.toCloudStorage(ee.Image(1), ti.dag_id, bucket="b", scale=1000).start()
            then(event, ti.try_number)
        if event == "worker_stood_still":
            return None
        descriptions = [ti.dag_id, f"{ti.dag_id}-fails"] if event == "exception" else [ti.dag_id]
        return [ee.batch.Export.image.toCloudStorage(ee.Image(1), d, bucket="b", scale=1000) for d in descriptions]

    return hold()


def torn_down(event: str) -> None:
    """Start an export and wait for it, with a teardown that cancels what still runs."""
    export(event, deferrable=True) >> EarthEngineCancelOperationsOperator(task_id="clean_up").as_teardown()


def start_operation(context: Any) -> list[str]:
    """Start an operation, unless there is one to resume."""
    ti, hook = context["ti"], EarthEngineHook()
    if operations := resume_operations(context, hook):
        return operations
    destination = {"cloudStorageDestination": {"bucket": "b"}}
    body = {"description": ti.dag_id, "expression": {"result": "0"}, "fileExportOptions": destination}
    return record_operations(context, hook.start_export("image", body).name)


def starting(_: str) -> None:
    """Start an operation and wait for it in one task, which can be retried."""

    @task(task_id="hold", retries=1, retry_delay=timedelta(0))
    def hold(**context: Any) -> None:
        if context["dag_run"].conf.get("is_bystander"):
            return
        EarthEngineHook().wait_for_operations(start_operation(context), poll_interval=1)

    hold()


def started(event: str) -> None:
    """Start an operation and end: another task, or the DAG's callback, is responsible for it."""

    @task(task_id="start")
    def start(**context: Any) -> list[str]:
        return [] if context["dag_run"].conf.get("is_bystander") else start_operation(context)

    timeout = timedelta(seconds=EXECUTION_TIMEOUT) if event == "execution_timeout" else None

    @task(task_id="hold", execution_timeout=timeout)
    def work(dag_run: Any) -> None:
        for _ in range(0 if dag_run.conf.get("is_bystander") else 600):
            if event == "dag_callback":
                time.sleep(8)
                raise ValueError("The export is not wanted any more.")
            time.sleep(1)

    start() >> work()


HOLDERS = {
    "cancel_running": lambda event: cancel(event, deferrable=False),
    "cancel_deferred": lambda event: cancel(event, deferrable=True),
    "sensor_running": sensor,
    "sensor_rescheduled": lambda event: sensor(event, mode="reschedule"),
    "sensor_deferred": lambda event: sensor(event, deferrable=True),
    "export_running": lambda event: export(event, deferrable=False),
    "export_deferred": lambda event: export(event, deferrable=True),
    "torn_down": torn_down,
    "starting": starting,
    "started": started,
}


def neighbour() -> None:
    """Hold an operation that must not be cancelled."""

    @task(task_id="neighbour")
    def hold_another(**context: Any) -> None:
        if name := context["dag_run"].conf.get("neighbour"):
            # As an observer: the collector cancels an owner's operation once the run has failed.
            in_other_run = context["dag_run"].conf.get("is_bystander")
            record_operations(context, name, ownership="owner" if in_other_run else "observer")

    hold_another()


def failing_later() -> None:
    """Fail once the signal file exists: Airflow then ends the other tasks of a DAG with ``fail_fast``."""

    @task(task_id="fails")
    def fails(dag_run: Any) -> None:
        if not (wanted := dag_run.conf.get("signal")):
            return
        while not Path(wanted).exists():
            time.sleep(0.5)
        raise RuntimeError("This ends the others.")

    fails()


def arguments(event: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if event in ("dag_callback", "timeout_callback", "worker_callback"):
        found["on_failure_callback"] = EarthEngineCancelOperationsNotifier()
    if event == "fail_fast_between_tries":
        found["fail_fast" if AIRFLOW_3 else "fail_stop"] = True
    if event in ("dagrun_timeout", "timeout_callback", "dag_paused", "timed_out_between_tries"):
        found["dagrun_timeout"] = timedelta(seconds=DAGRUN_TIMEOUT)
    if event == "deadline" and DeadlineAlert:
        found["deadline"] = DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(seconds=DEADLINE),
            callback=AsyncCallback(EarthEngineCancelOperationsNotifier),
        )
    return found


#: For these events, only these holders are measured.
ONLY = dict.fromkeys((*BETWEEN_TRIES, "retry_policy", "skipped_after_start", "own_handler"), EXPORTING) | {
    "process_sigterm": ("export_running", "sensor_running"),
    "cleared_while_paused": ("export_deferred", "sensor_deferred"),
}

#: The DAG that a task's process needs, and those that the system tests need: no others are made.
needed = get_parsing_context().dag_id
selected = os.environ.get("LIFECYCLE_DAGS")

for holder, hold in HOLDERS.items():
    for happens in EVENTS:
        dag_id = f"{holder}__{happens}"
        if needed not in (None, dag_id) or holder not in ONLY.get(happens, HOLDERS):
            continue
        if selected is not None and dag_id not in selected.split():
            continue
        with DAG(dag_id, schedule=None, catchup=False, **arguments(happens)) as made:
            hold(happens)
            neighbour()
            if happens == "fail_fast_between_tries":
                failing_later()
        globals()[made.dag_id] = made

with DAG("janitor", schedule=None, catchup=False) as made:
    EarthEngineCancelStaleOperationsOperator(
        task_id="hold",
        description="{{ dag_run.conf['description'] }}",
        keep="{{ dag_run.conf['keep'] }}",
        orphaned="{{ dag_run.conf['orphaned'] }}",
        airflow_conn_id="airflow_api",
    )
globals()[made.dag_id] = made

with DAG("mapped__run_marked_failed", schedule=None, catchup=False) as made:

    @task(task_id="names")
    def names(**context: Any) -> list[str]:
        found: list[str] = context["dag_run"].conf["operation_names"]
        return found

    @task_group(group_id="group")
    def wait_for_one(name: str) -> None:
        EarthEngineOperationsSensor(
            task_id="hold", operation_names=name, poll_interval=1, deferrable=True, cancel_on_kill=True
        )

    wait_for_one.expand(name=names())
globals()[made.dag_id] = made

with DAG("lazy__task_marked_failed", schedule=None, catchup=False) as made:

    @task(task_id="name")
    def name_of(index: int, **context: Any) -> str:
        found: str = context["dag_run"].conf["operation_names"][index]
        return found

    # A mapped task's result is a lazy sequence, which sends a request to Airflow at each access.
    EarthEngineOperationsSensor(
        task_id="hold", operation_names=name_of.expand(index=[0, 1, 2]), poll_interval=1, cancel_on_kill=True
    )
globals()[made.dag_id] = made
