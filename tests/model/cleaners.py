"""Cleaners, each in a process of its own: a teardown of the task's run, a notifier, the janitor, the collector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, BaseOperator
from collector_model import make_collector
from database_model import BYSTANDER, SIBLING, TERMINAL, TaskInstance
from world import Dead, Process

from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_model import Airflow

#: Seconds from the task's end to the cleaner's start; the tries of a teardown; seconds between these tries; and seconds
#: for which the dag-processor lets a callback run.
BEGINS, TRIES, BETWEEN_TRIES, CALLBACK_TIMEOUT = 1.5, 4, 5.0, 50.0


def dag_of_the_run() -> DAG:
    """Return the run's DAG: the task, its teardown, and a bystander beside them."""
    with DAG("dag", schedule=None) as dag:
        BaseOperator(task_id="bystander")
        clean_up = EarthEngineCancelOperationsOperator(task_id="clean_up", deferrable=False)
        BaseOperator(task_id="task") >> clean_up.as_teardown()
    return dag


class TeardownInstance(TaskInstance):
    """The teardown's own task instance."""

    task_id, map_index = "clean_up", -1


def teardown(airflow: Airflow, process: Process) -> None:
    """Run the teardown, and run it again if it fails."""
    for number in range(TRIES):
        if number:
            airflow.world.wait(lambda: False, airflow.world.now + BETWEEN_TRIES)
        dag = dag_of_the_run()
        operator = process.operator = dag.get_task("clean_up")
        airflow.xcoms["clean_up", -1] = {}
        context = {**airflow.context(), "ti": TeardownInstance(airflow), "dag": dag}
        try:
            operator.pre_execute(context)
            operator.execute(context)
        except Dead:
            raise
        except AirflowSkipException:
            return
        except Exception as error:  # noqa: BLE001 (Airflow tries again after any error)
            airflow.world.note(f"     the teardown: {type(error).__name__} {str(error)[:160]}")
        else:
            return


def notifier(airflow: Airflow, process: Process, scope: str) -> None:
    """Call a notifier, in the dag-processor."""
    airflow.world.after(CALLBACK_TIMEOUT, process.kill)
    context: Any = {**airflow.context(), "dag": dag_of_the_run(), "reason": "task_failure"}
    EarthEngineCancelOperationsNotifier(scope=scope).notify(context)


def janitor(airflow: Airflow, process: Process) -> None:
    """Run the janitor, as its own scheduled DAG does."""
    operator = process.operator = EarthEngineCancelStaleOperationsOperator(
        task_id="janitor", orphaned=True, airflow_conn_id="airflow_api", deferrable=False
    )
    context = {**airflow.context(), "ti": JanitorInstance(airflow)}
    airflow.xcoms["janitor", -1] = {}
    try:
        operator.pre_execute(context)
        operator.execute(context)
    except Dead:
        raise
    except Exception as error:  # noqa: BLE001 (the next run follows after any error)
        airflow.world.note(f"     the janitor: {type(error).__name__} {str(error)[:160]}")


def collector(airflow: Airflow, _process: Process) -> None:
    """Run one pass of the collector."""
    if airflow.collector is None:
        airflow.collector = make_collector(airflow)
    airflow.collector.look()


class JanitorInstance(TaskInstance):
    """The janitor's own task instance."""

    task_id, map_index = "janitor", -1


@dataclass(frozen=True)
class Cleaner:
    """A cleaner, and when it runs.

    :param clean_up: cleans up; None for no cleaner.
    :param not_after: strikes after which Airflow does not run the cleaner.
    :param only_failed: whether it runs only after the task has failed.
    :param also_cleans: other task instances whose operations it cancels; they have no records in the history.
    :param every: seconds between two runs, from the task's start; None for a single run after the task's end.
    """

    clean_up: Callable[[Airflow, Process], None] | None = None
    not_after: frozenset[str] = frozenset()
    only_failed: bool = False
    also_cleans: tuple[tuple[str, int], ...] = ()
    every: float | None = None


CLEANERS = {
    "": Cleaner(),
    "teardown": Cleaner(teardown, frozenset({"run_deleted", "dagrun_timeout"}), also_cleans=(SIBLING,)),
    "DAG's notifier": Cleaner(
        lambda airflow, process: notifier(airflow, process, "run"),
        frozenset({"run_deleted", "run_marked_failed"}),
        only_failed=True,
        also_cleans=(SIBLING, BYSTANDER),
    ),
    "task's notifier": Cleaner(
        lambda airflow, process: notifier(airflow, process, "task"), frozenset({"run_deleted"}), only_failed=True
    ),
    "janitor": Cleaner(janitor, frozenset({"run_deleted"}), every=20.0),
    # More often than in production: its steps allow strikes between two tries of a task.
    "collector": Cleaner(collector, every=3.0),
}


class CleaningUp:
    """Runs the cleaner: once the task has ended and Airflow has noticed, or periodically."""

    def __init__(self, airflow: Airflow, name: str, struck: list[str]) -> None:
        self.airflow, self.cleaner, self.name, self.struck = airflow, CLEANERS[name], name, struck
        self._process: Process | None = None
        #: The operations that the task had recorded when the cleaner started.
        self.known: set[str] = set()
        airflow.world.after(self.cleaner.every or BEGINS, self._look)

    @property
    def is_awaited(self) -> bool:
        """Whether the cleaner has not started yet, or is running."""
        return self._is_called_for and (self._process is None or self._process.is_running)

    @property
    def _is_called_for(self) -> bool:
        cleaner = self.cleaner
        if cleaner.clean_up is None or cleaner.not_after & set(self.struck):
            return False
        return not cleaner.only_failed or self.airflow.row.state == "failed"

    def _look(self) -> None:
        airflow, clean_up, every = self.airflow, self.cleaner.clean_up, self.cleaner.every
        is_over = airflow.row.state in TERMINAL
        if every is not None and (not self.known or self.name == "collector"):
            airflow.world.after(every, self._look)
        if self._process is not None and self._process.is_running and self.name == "collector":
            return
        if not is_over and every is None:
            airflow.world.after(BEGINS, self._look)
        elif clean_up is not None and self._is_called_for:
            # (A task that has succeeded may have passed its operations to another task of the run.)
            self.known = airflow.recorded() if is_over and (every is None or airflow.row.state != "success") else set()
            process = self._process = Process(airflow.world, self.name)
            process.start(lambda: clean_up(airflow, process))
