"""Who cleans up after a task, in a process of its own: a teardown of its run, a notifier, the janitor."""

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

#: Seconds between the task's end and the cleaner's beginning; tries of a teardown, and seconds between them; and for
#: which the dag-processor lets a callback run.
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
    """Run the teardown, and run it again if it has failed."""
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
        except Exception as error:  # noqa: BLE001 (whatever it is, Airflow tries again)
            airflow.world.note(f"     the teardown: {type(error).__name__} {str(error)[:160]}")
        else:
            return


def notifier(airflow: Airflow, process: Process, scope: str) -> None:
    """Call a notifier, in the dag-processor."""
    airflow.world.after(CALLBACK_TIMEOUT, process.kill)
    context: Any = {**airflow.context(), "dag": dag_of_the_run(), "reason": "task_failure"}
    EarthEngineCancelOperationsNotifier(scope=scope).notify(context)


def janitor(airflow: Airflow, process: Process) -> None:
    """Run the janitor, as a DAG of its own does again and again."""
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
    except Exception as error:  # noqa: BLE001 (whatever it is, the next one comes)
        airflow.world.note(f"     the janitor: {type(error).__name__} {str(error)[:160]}")


def collector(airflow: Airflow, _process: Process) -> None:
    """Let the collector look once."""
    if airflow.collector is None:
        airflow.collector = make_collector(airflow)
    airflow.collector.look()


class JanitorInstance(TaskInstance):
    """The janitor's own task instance."""

    task_id, map_index = "janitor", -1


@dataclass(frozen=True)
class Cleaner:
    """Who cleans up.

    :param clean_up: does it; None if there is nobody.
    :param not_after: strikes after which Airflow runs nothing of it.
    :param only_failed: whether it is called for what has failed only.
    :param also_cleans: the task instances whose operations it is to cancel as well, and that are not looked at.
    :param every: seconds between two beginnings, from the task's start on; None for one, after the task's end.
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
    # More often than it is: so that strikes come between two tries of a task.
    "collector": Cleaner(collector, every=3.0),
}


class CleaningUp:
    """Begins once the task is over, and Airflow has noticed."""

    def __init__(self, airflow: Airflow, name: str, struck: list[str]) -> None:
        self.airflow, self.cleaner, self.name, self.struck = airflow, CLEANERS[name], name, struck
        self._process: Process | None = None
        #: What the task had recorded when it began.
        self.known: set[str] = set()
        airflow.world.after(self.cleaner.every or BEGINS, self._look)

    @property
    def is_awaited(self) -> bool:
        """Whether it is still to come, or runs."""
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
            # (Another task of the run may have been given what one has held that has succeeded.)
            self.known = airflow.recorded() if is_over and (every is None or airflow.row.state != "success") else set()
            process = self._process = Process(airflow.world, self.name)
            process.start(lambda: clean_up(airflow, process))
