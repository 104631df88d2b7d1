"""Ctrl-C during a local test of a DAG, in a real terminal: the task's operation is cancelled and confirmed at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from airflow import __version__ as airflow_version
from trying import Tried, make_home

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

IS_AIRFLOW_2 = airflow_version.startswith("2.")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with a database that all of these tests share."""
    made: Path = tmp_path_factory.mktemp("home")
    make_home(made)
    return made


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An Earth Engine emulator for each test."""
    with Emulator(Service(Behaviour(pending_seconds=0, run_seconds=3600, cancel_seconds=0.5))) as running:
        yield running


#: One of each way and of each place where a task waits; `make nightly` tests the others as well. A shell and pytest
#: behave the same with each Airflow version.
WAYS = (
    ("dags test", "export_worker_2"),
    ("dags test", "sensor_deferrable_0"),
    ("tasks test", "export_worker_0"),
    ("python dag.py", "export_deferrable_2"),
)
OF_PYTHON = (("shell", "export_deferrable_0"), ("pytest", "export_worker_2"))
OTHER_WAYS = (
    *(OF_PYTHON if IS_AIRFLOW_2 else ()),
    ("dags test", "export_worker_0"),
    ("dags test", "export_deferrable_0"),
    ("dags test", "export_deferrable_2"),
    ("dags test", "sensor_worker_2"),
    ("tasks test", "export_worker_2"),
    ("tasks test", "export_deferrable_0"),
    ("python dag.py", "export_worker_2"),
    ("shell", "export_worker_0"),
    ("pytest", "export_deferrable_0"),
)


@pytest.mark.parametrize(
    ("way", "dag_id"),
    [
        *WAYS,
        *(() if IS_AIRFLOW_2 else OF_PYTHON),
        *(pytest.param(*other, marks=pytest.mark.nightly) for other in OTHER_WAYS),
    ],
)
def test_ctrl_c_cancels_the_operation_at_once(
    way: str, dag_id: str, emulator: Emulator, home: Path, tmp_path: Path
) -> None:
    tried = Tried(way, dag_id, emulator, home, tmp_path)
    with tried.terminal:
        tried.interrupt()
        wait_until(partial(_is_cancelled, emulator), what=f"{way}: the cancel")
        tried.end()
        assert tried.states == ["CANCELLED"], tried.terminal.shown
        assert "interrupted (Ctrl-C)" in tried.terminal.shown
        assert ": cancelled (CANCELLED" in tried.terminal.shown


@pytest.mark.parametrize(
    ("way", "dag_id"),
    [
        ("dags test", "export_deferrable_2"),
        *(
            pytest.param(*other, marks=pytest.mark.nightly)
            for other in (
                ("dags test", "sensor_deferrable_0"),
                ("shell", "export_deferrable_0"),
                ("pytest", "export_deferrable_0"),
            )
        ),
    ],
)
def test_ctrl_c_during_the_deferral_cancels_the_operation(
    way: str, dag_id: str, emulator: Emulator, home: Path, tmp_path: Path
) -> None:
    """Until the trigger starts, only Airflow's own code runs."""
    tried = Tried(way, dag_id, emulator, home, tmp_path)
    with tried.terminal:
        tried.interrupt(after="running trigger in line" if IS_AIRFLOW_2 else "Pausing task as DEFERRED")
        tried.end()
        assert tried.states == ["CANCELLED"], tried.terminal.shown
        assert "interrupted (Ctrl-C)" in tried.terminal.shown


def _is_cancelled(emulator: Emulator) -> bool:
    return bool(emulator.service.requests("POST", "*:cancel"))


@pytest.mark.parametrize("dag_id", ["export_worker_2", pytest.param("export_deferrable_0", marks=pytest.mark.nightly)])
def test_second_ctrl_c_names_the_operation_that_may_still_run(
    dag_id: str, emulator: Emulator, home: Path, tmp_path: Path
) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=3600)
    tried = Tried("dags test", dag_id, emulator, home, tmp_path)
    with tried.terminal:
        tried.interrupt()
        tried.interrupt(after="cancel requested")
        tried.end()
        [name] = emulator.service.operations
        assert f"Interrupted again: {name} may still run" in tried.terminal.shown


def test_task_that_fails_in_tasks_test_is_not_retried(emulator: Emulator, home: Path, tmp_path: Path) -> None:
    """In ``tasks test``, the try number is 0, and the task may report that it is up for retry."""
    tried = Tried("tasks test", "failing_worker_2", emulator, home, tmp_path)
    with tried.terminal:
        tried.end()
        assert tried.states == ["CANCELLED"], tried.terminal.shown
