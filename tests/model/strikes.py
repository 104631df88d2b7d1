"""Strikes: events at a step of a history, in the words of the vocabulary, by whether operations are still needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_model import Airflow

#: Strikes after which the task no longer needs its operations.
UNWANTED: dict[str, Callable[[Airflow], None]] = {
    "task_marked_failed": lambda airflow: airflow.mark("failed"),
    "task_marked_success": lambda airflow: airflow.mark("success"),
    "task_cleared": lambda airflow: airflow.clear(),
    "run_marked_failed": lambda airflow: airflow.end_run("marked failed"),
    "run_deleted": lambda airflow: airflow.end_run("deleted"),
    "dagrun_timeout": lambda airflow: airflow.end_run("timed out"),
    "execution_timeout": lambda airflow: airflow.time_out(),
    "trigger_timeout": lambda airflow: airflow.triggerer.time_out(),
    "task_marked_failed_at_once": lambda airflow: airflow.tell(airflow.mark, "failed"),
    "task_cleared_at_once": lambda airflow: airflow.tell(airflow.clear),
    "retry_policy": lambda airflow: airflow.fail(by_policy=True),
    "run_ends_alone": lambda airflow: airflow.end_run_alone(),
}
#: Strikes after which the task needs its operations only if another try follows.
EITHER: dict[str, Callable[[Airflow], None]] = {
    "worker_sigterm": lambda airflow: airflow.worker.go(kill=False),
    "process_sigterm": lambda airflow: airflow.worker.interrupt(),
    "exception": lambda airflow: airflow.fail(),
}
#: Strikes after which the task still needs its operations.
WANTED: dict[str, Callable[[Airflow], None]] = {
    "worker_lost_sight_of": lambda airflow: airflow.worker.is_lost_sight_of(),
    "worker_stood_still": lambda airflow: airflow.worker.stands_still(),
    "operations_end": lambda airflow: airflow.world.end_all(),
    "worker_sigkill": lambda airflow: airflow.worker.go(kill=True),
    "triggerer_sigterm": lambda airflow: airflow.triggerer.stop(kill=False),
    "triggerer_sigkill": lambda airflow: airflow.triggerer.stop(kill=True),
    "trigger_taken_over": lambda airflow: airflow.triggerer.is_late(),
    "connection_away": lambda airflow: airflow.world.lose_connection(),
    "airflow_slow": lambda airflow: airflow.world.slow_answers.append(30.0),
    "request_lost": lambda airflow: airflow.world.faults.append("lost before"),
    "answer_lost": lambda airflow: airflow.world.faults.append("lost after"),
    "request_refused": lambda airflow: airflow.world.faults.append("refused"),
    "earth_engine_away": lambda airflow: airflow.world.faults.extend(["refused"] * 8),
}
STRIKES = UNWANTED | EITHER | WANTED

#: Temporary faults, which must not cost a sensor a try.
FAULTS = {"request_lost", "answer_lost", "request_refused", "earth_engine_away"}

#: A user clears the task.
CLEARED = {"task_cleared", "task_cleared_at_once"}

#: After these, there may be no process or trigger that cancels when a user ends the task.
LEAVES_NOBODY = {
    "worker_sigkill",
    "worker_lost_sight_of",
    "worker_stood_still",
    "triggerer_sigkill",
    "triggerer_sigterm",
    "airflow_slow",
    "connection_away",
}

#: After these, the next try continues with operations that could not be cancelled in time.
TIMEOUTS = {"execution_timeout", "trigger_timeout"}
TRIED_AGAIN = TIMEOUTS | {"worker_sigterm"}
