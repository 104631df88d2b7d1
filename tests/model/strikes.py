"""What strikes at a step of a history, and what is still wanted after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_model import Airflow

#: What can happen at a step. After these, nothing that the task held before is wanted any more …
UNWANTED: dict[str, Callable[[Airflow], None]] = {
    "marked failed": lambda airflow: airflow.mark("failed"),
    "marked success": lambda airflow: airflow.mark("success"),
    "cleared": lambda airflow: airflow.clear(),
    "run marked failed": lambda airflow: airflow.end_run("marked failed"),
    "run deleted": lambda airflow: airflow.end_run("deleted"),
    "run timed out": lambda airflow: airflow.end_run("timed out"),
    "execution_timeout": lambda airflow: airflow.time_out(),
    "deferral timed out": lambda airflow: airflow.triggerer.time_out(),
    "marked failed, told at once": lambda airflow: airflow.tell(airflow.mark, "failed"),
    "cleared, told at once": lambda airflow: airflow.tell(airflow.clear),
    "fails by its retry policy": lambda airflow: airflow.fail(by_policy=True),
    "the run alone ends": lambda airflow: airflow.end_run_alone(),
}
#: … and after this one it is, if another try follows.
EITHER: dict[str, Callable[[Airflow], None]] = {
    "worker SIGTERM": lambda airflow: airflow.worker.go(kill=False),
    "SIGTERM to the process alone": lambda airflow: airflow.worker.interrupt(),
    "an error": lambda airflow: airflow.fail(),
}
#: After these it is wanted.
WANTED: dict[str, Callable[[Airflow], None]] = {
    "lost sight of": lambda airflow: airflow.worker.is_lost_sight_of(),
    "worker stands still": lambda airflow: airflow.worker.stands_still(),
    "operations end": lambda airflow: airflow.world.end_all(),
    "worker SIGKILL": lambda airflow: airflow.worker.go(kill=True),
    "triggerer SIGTERM": lambda airflow: airflow.triggerer.stop(kill=False),
    "triggerer SIGKILL": lambda airflow: airflow.triggerer.stop(kill=True),
    "trigger taken over": lambda airflow: airflow.triggerer.is_late(),
    "Airflow slow": lambda airflow: airflow.world.slow_answers.append(30.0),
    "request lost": lambda airflow: airflow.world.faults.append("lost before"),
    "answer lost": lambda airflow: airflow.world.faults.append("lost after"),
    "request refused": lambda airflow: airflow.world.faults.append("refused"),
    "Earth Engine away": lambda airflow: airflow.world.faults.extend(["refused"] * 8),
}
STRIKES = UNWANTED | EITHER | WANTED

#: What passes, and of which a sensor's task must take no notice.
FAULTS = {"request lost", "answer lost", "request refused", "Earth Engine away"}

#: After these, nobody may be there to cancel when somebody ends the task.
LEAVES_NOBODY = {
    "worker SIGKILL",
    "lost sight of",
    "worker stands still",
    "triggerer SIGKILL",
    "triggerer SIGTERM",
    "Airflow slow",
}

#: After these, the next try goes on with what could not be cancelled in time.
TIMEOUTS = {"execution_timeout", "deferral timed out"}
TRIED_AGAIN = TIMEOUTS | {"worker SIGTERM"}
