"""What can happen: a word for each thing, and a sentence.

The lifecycle matrix, the model, the moments of a start, the soak and the traces use these words; their pages use the
sentences. Not each of them can let everything happen: PostgreSQL stops on a real Airflow only, and an answer is lost in
the model only.
"""

from __future__ import annotations

#: To a task, its run, its DAG, by a person or by Airflow.
TO_A_TASK = {
    "nothing": "nothing",
    "task_cleared": "the task is cleared",
    "task_cleared_at_once": "the task is cleared, and the next heartbeat tells its process at once",
    "task_marked_failed": "the task is marked failed",
    "task_marked_failed_at_once": "the task is marked failed, and the next heartbeat tells its process at once",
    "task_marked_success": "the task is marked success",
    "run_cleared": "the whole run is cleared",
    "run_marked_failed": "the run is marked failed",
    "run_deleted": "the run is marked failed and deleted",
    "run_ends_alone": "the run ends, and its task still counts as running",
    "dagrun_timeout": "`dagrun_timeout`",
    "timeout_callback": "`dagrun_timeout`, and the DAG has a notifier",
    "deadline": "a deadline is missed (`DeadlineAlert`)",
    "dag_paused": "the DAG is paused, past `dagrun_timeout`, and unpaused",
    "cleared_while_paused": "the DAG is paused, and then the deferred task cleared",
    "execution_timeout": "`execution_timeout` (rescheduled: the sensor's `timeout`)",
    "trigger_timeout": "the sensor's or operator's `timeout`, in the triggerer",
    "times_out": "the run's or the task's time is over",
    "marked_while_working": "the task is marked failed while its function works, and has started one of two",
    "own_handler": "the task is marked failed while its function works, with a handler of SIGTERM of its own",
    "exception": "the task fails (one of two operations)",
    "task_callback": "the task fails (one of two operations), and has a notifier",
    "dag_callback": "the task fails (one of two operations), and the DAG has a notifier",
    "retry_policy": "the function raises, and a retry policy lets the task fail although there are `retries`",
    "skipped_after_start": "the function has started an export, and raises `AirflowSkipException`",
    "marked_between_tries": "between two tries: the task is marked failed",
    "run_marked_between_tries": "between two tries: its run is marked failed",
    "timed_out_between_tries": "between two tries: `dagrun_timeout` passes",
    "fail_fast_between_tries": "between two tries: another task fails, and the DAG has `fail_fast`",
    "left_alone": "the task is marked failed, and was not asked to cancel",
}

#: To its worker, which is its process and what supervises it.
TO_A_WORKER = {
    "process_sigterm": "the task's process alone gets SIGTERM, lives on, and is marked failed later",
    "worker_sigterm": "the worker gets SIGTERM, and SIGKILL after a grace period",
    "worker_evicted": "the worker gets SIGTERM, and SIGKILL after a grace period, and the task has `retries`",
    "worker_sigkill": "the worker gets SIGKILL",
    "worker_callback": "the worker gets SIGKILL, and the DAG has a notifier",
    "worker_lost_sight_of": (
        "the worker's heartbeats do not come through until the next try has begun, and then it goes on"
    ),
    "worker_stood_still": (
        "the worker stands still while the task's function works, until the next try is deferred, and then it goes on"
    ),
    "one_worker_stands_still": "one of two workers stands still until the next try has begun, and goes on",
    "celery_warm": "Celery's workers get SIGTERM (warm), and others take their place",
    "celery_sigterm_twice": "Celery's workers get SIGTERM twice, and others take their place",
    "celery_cold": "Celery's workers get SIGQUIT (cold), and others take their place",
    "celery_sigkill": "Celery's workers get SIGKILL, with all that they run, and others take their place",
    "redelivered": "the broker delivers a task again that still runs (its `visibility_timeout`)",
}

#: To Airflow's other parts, and to what they need.
TO_AIRFLOW = {
    "triggerer_sigterm": "the triggerer gets SIGTERM, and comes back",
    "triggerer_sigkill": "the triggerer gets SIGKILL, and comes back",
    "trigger_taken_over": "a triggerer is late, and another one takes the trigger over",
    "cleared_without_triggerer": "cleared while no triggerer runs",
    "failed_without_triggerer": "the run is marked failed while no triggerer runs",
    "one_triggerer_sigterm": "one of two triggerers gets SIGTERM",
    "one_triggerer_sigkill": "one of two triggerers gets SIGKILL",
    "one_triggerer_stands_still": "one of two triggerers stands still for a minute, and goes on",
    "scheduler_sigkill": "the scheduler gets SIGKILL, and comes back",
    "api_server_restarts": "the API server of the tasks restarts, and is away for 20 s",
    "airflow_slow": "Airflow's next answer takes half a minute",
    "database_away": "PostgreSQL stops, and comes back after a minute",
    "broker_away": "Redis is killed, and comes back after a minute",
}

#: To Earth Engine, and to what it is asked.
TO_EARTH_ENGINE = {
    "operations_end": "all operations end",
    "request_lost": "a request is lost before Earth Engine acts on it",
    "answer_lost": "Earth Engine acts on a request, and its answer is lost",
    "request_refused": "a request is refused",
    "earth_engine_away": "Earth Engine does not answer for ten minutes",
}

SENTENCES = TO_A_TASK | TO_A_WORKER | TO_AIRFLOW | TO_EARTH_ENGINE
