from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow import __version__ as airflow_version
from ran import Ran
from task_states import forget_runs, set_states

from airflow_ee_provider.base import process
from airflow_ee_provider.lifecycle.ending import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.emulator import Emulator


@pytest.fixture(scope="session", autouse=True)
def airflow_database() -> None:
    """Create Airflow's tables in AIRFLOW_HOME: each test process has its own, and runs some of these tests."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(autouse=True)
def no_listeners_left() -> Iterator[None]:
    """Unregister the listeners of a test's tasks: their process has not ended, and Airflow would call them later."""
    yield
    manager = process._listener_manager().pm
    for plugin in [one for one in manager.get_plugins() if isinstance(one, Ending)]:
        manager.unregister(plugin)


@pytest.fixture(autouse=True)
def no_log_handlers_left() -> Iterator[None]:
    """Remove the log handlers that `dag.test()` adds on Airflow 2: after the test, a message to them is an error."""
    logger = logging.getLogger("airflow.task")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before


@pytest.fixture(scope="session")
def dags(airflow_database: None) -> dict[str, Any]:  # noqa: ARG001 (its tables must be there)
    """Read the DAGs of ``tests/integration/dags``, as Airflow does."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag()
    assert not bag.import_errors
    found: dict[str, Any] = bag.dags
    return found


@pytest.fixture
def orphan(earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]) -> str:
    """An operation that runs, and that only a task of a failed run has recorded."""
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    name = earth_engine_emulator.service.add("ndvi-2024")
    run_dag("held_owner", name)
    set_states("held_owner", "failed", "failed")
    return name


@pytest.fixture
def run_owner(earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]) -> Callable[..., str]:
    """Return a function that deletes all runs, runs a DAG whose task owns an operation, and returns the operation."""

    def run(dag_id: str, **operation: Any) -> str:
        forget_runs()
        earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
        name = earth_engine_emulator.service.add("ndvi", **operation)
        run_dag(dag_id, name)
        return name

    return run


@pytest.fixture
def owned(run_owner: Callable[..., str]) -> str:
    """A running operation that the task of the DAG ``owned`` has recorded as its own."""
    return run_owner("owned")


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What was logged since the last call: Airflow 3 writes to the standard output, Airflow 2 to Python's logging."""

    def read() -> str:
        captured = capfd.readouterr()
        written = captured.out + captured.err + caplog.text
        caplog.clear()
        return written

    return read


@pytest.fixture
def run_dag(
    dags: dict[str, Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Callable[..., Ran]:
    """Run one of the DAGs with Airflow's own ``dag.test()``."""

    def run(dag_id: str, *operation_names: str) -> Ran:
        dag = dags[dag_id]
        capfd.readouterr()
        caplog.clear()
        dag_run = dag.test(run_conf={"operation_names": list(operation_names)})
        [task] = [task for task in dag_run.get_task_instances() if task.task_id == "task"]
        # Airflow 3 writes its log to the standard output, Airflow 2 to Python's logging.
        captured = capfd.readouterr()
        written = captured.out + captured.err + caplog.text
        if airflow_version.startswith("3.0"):  # It colours an error, and wraps its lines.
            written = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", written).split())
        # Airflow 3.1 cannot pull the value of a mapped task without its index.
        return Ran(str(task.state), task.xcom_pull(task_ids="task", map_indexes=task.map_index), written)

    return run
