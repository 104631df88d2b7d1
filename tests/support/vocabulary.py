"""The vocabulary of events: a name and a sentence for each.

The lifecycle matrix, the model, the moments of a start, the soak and the traces use these names; their pages use the
sentences. Not each of them can trigger every event: only on a real Airflow can PostgreSQL stop, and only in the model
can a response be lost.
"""

from __future__ import annotations

#: Events that happen to a task, its run or its DAG, caused by a user or by Airflow.
TO_A_TASK = {
    "nothing": "nothing",
    "task_cleared": "the task is cleared",
    "task_cleared_at_once": "the task is cleared, and its process learns it with the next heartbeat",
    "task_marked_failed": "the task is marked failed",
    "task_marked_failed_at_once": "the task is marked failed, and its process learns it with the next heartbeat",
    "task_marked_success": "the task is marked success",
    "run_cleared": "the whole run is cleared",
    "run_marked_failed": "the run is marked failed",
    "run_deleted": "the run is marked failed and deleted",
    "run_ends_alone": "the run ends, and Airflow still counts its task as running",
    "dagrun_timeout": "`dagrun_timeout`",
    "timeout_callback": "`dagrun_timeout`; the DAG has a notifier",
    "deadline": "a deadline is missed (`DeadlineAlert`)",
    "dag_paused": "the DAG is paused, past `dagrun_timeout`, and unpaused",
    "cleared_while_paused": "the DAG is paused, and then the deferred task cleared",
    "execution_timeout": "`execution_timeout` (rescheduled: the sensor's `timeout`)",
    "trigger_timeout": "the sensor's or operator's `timeout`, in the triggerer",
    "times_out": "the run or the task times out",
    "marked_while_working": "the task is marked failed after its function has started one of two exports",
    "own_handler": "the task is marked failed while its function works and handles SIGTERM itself",
    "exception": "one of two operations fails",
    "task_callback": "one of two operations fails; the task has a notifier",
    "dag_callback": "one of two operations fails; the DAG has a notifier",
    "retry_policy": "the function raises, and a retry policy fails the task although `retries` remain",
    "skipped_after_start": "the function starts an export and raises `AirflowSkipException`",
    "marked_between_tries": "between two tries, the task is marked failed",
    "run_marked_between_tries": "between two tries, its run is marked failed",
    "timed_out_between_tries": "`dagrun_timeout` between two tries",
    "fail_fast_between_tries": "between two tries, another task of a `fail_fast` DAG fails",
    "fail_fast": "another task of a `fail_fast` DAG fails",
    "dags_paused": "all DAGs are paused for half a minute",
    "interrupted": "elsewhere, the author of a DAG tries it (`airflow dags test`) and presses Ctrl-C",
    "left_alone": "the task is marked failed, and its `cancel_on_*` parameters are off",
}

#: Events that happen to the task's worker: its process and the supervisor of that process.
TO_A_WORKER = {
    "process_sigterm": "only the task's process gets SIGTERM and survives; the task is marked failed later",
    "worker_sigterm": "the worker gets SIGTERM, and SIGKILL after a grace period",
    "worker_evicted": "the worker gets SIGTERM, later SIGKILL; the task has `retries`",
    "worker_sigkill": "the worker gets SIGKILL",
    "worker_callback": "the worker gets SIGKILL; the DAG has a notifier",
    "worker_lost_sight_of": ("the worker's heartbeats are lost until the next try runs"),
    "worker_stood_still": ("the worker is suspended while the function works, until the next try is deferred"),
    "one_worker_stands_still": "one of two workers is suspended until the next try runs",
    "celery_warm": "Celery's workers get SIGTERM (warm shutdown) and are replaced",
    "celery_sigterm_twice": "Celery's workers get SIGTERM twice and are replaced",
    "celery_cold": "Celery's workers get SIGQUIT (cold shutdown) and are replaced",
    "celery_sigkill": "Celery's workers and their tasks get SIGKILL and are replaced",
    "redelivered": "the broker delivers a running task again (`visibility_timeout`)",
}

#: Events that happen to Airflow's other parts, and to services that they need.
TO_AIRFLOW = {
    "triggerer_sigterm": "the triggerer gets SIGTERM and restarts",
    "triggerer_sigkill": "the triggerer gets SIGKILL and restarts",
    "trigger_taken_over": "a triggerer is slow, and another one takes over its trigger",
    "cleared_without_triggerer": "the task is cleared while no triggerer runs",
    "failed_without_triggerer": "the run is marked failed while no triggerer runs",
    "one_triggerer_sigterm": "one of two triggerers gets SIGTERM",
    "one_triggerer_sigkill": "one of two triggerers gets SIGKILL",
    "one_triggerer_stands_still": "one of two triggerers is suspended for a minute",
    "scheduler_sigkill": "the scheduler gets SIGKILL and restarts",
    "api_server_restarts": "the tasks' API server restarts, and is unavailable for 20 s",
    "connection_away": "no connection can be read for fifteen seconds",
    "airflow_slow": "Airflow's next answer takes half a minute",
    "database_away": "PostgreSQL stops for a minute",
    "broker_away": "Redis is killed, and restarts after a minute",
}

#: Events that happen to Earth Engine, and to requests to it.
TO_EARTH_ENGINE = {
    "operations_end": "all operations end",
    "request_lost": "a request is lost before Earth Engine receives it",
    "answer_lost": "Earth Engine acts on a request, and its response is lost",
    "request_refused": "Earth Engine refuses a request",
    "earth_engine_away": "Earth Engine does not answer for ten minutes",
}

SENTENCES = TO_A_TASK | TO_A_WORKER | TO_AIRFLOW | TO_EARTH_ENGINE
