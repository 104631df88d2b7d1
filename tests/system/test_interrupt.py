"""Ctrl-C while an author tries a DAG, in a real terminal: what the task holds is cancelled, and confirmed, at once."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow import __version__ as airflow_version
from terminal import CTRL_C, CTRL_D, Terminal

from airflow_ee_provider.emulator import Emulator
from airflow_ee_provider.emulator.operations import Behaviour
from airflow_ee_provider.emulator.service import Service
from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

IS_AIRFLOW_2 = airflow_version.startswith("2.")
TRIED = Path(__file__).parent / "tried"
AIRFLOW = str(Path(sys.executable).parent / "airflow")

IN_PYTEST = """
def test_dag():
    import tried
    assert getattr(tried, {dag_id!r}).test().state == "success"
"""
IN_A_SHELL = "import tried; run = getattr(tried, {dag_id!r}).test()"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with a database that all of these tests share."""
    from subprocess import run

    made: Path = tmp_path_factory.mktemp("home")
    run([AIRFLOW, "db", "migrate"], env=environment(made), check=True, capture_output=True)
    return made


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An Earth Engine of a test's own."""
    with Emulator(Service(Behaviour(pending_seconds=0, run_seconds=3600, cancel_seconds=0.5))) as running:
        yield running


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the variables of an author's shell."""
    paths = (str(TRIED), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    own = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(TRIED), "TERM": "dumb", "COLUMNS": "200"}
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", **more}


def command(way: str, dag_id: str, folder: Path) -> list[str]:
    """Return what an author types."""
    (folder / "test_tried.py").write_text(IN_PYTEST.format(dag_id=dag_id), encoding="utf-8")
    commands = {
        "dags test": [AIRFLOW, "dags", "test", dag_id],
        "tasks test": [AIRFLOW, "tasks", "test", dag_id, "task"],
        "python dag.py": [sys.executable, str(TRIED / "tried.py")],
        "shell": [sys.executable, "-i", "-c", IN_A_SHELL.format(dag_id=dag_id)],
        "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", str(folder / "test_tried.py")],
    }
    return commands[way]


class Tried:
    """A DAG that an author tries in a terminal; it holds one operation."""

    def __init__(self, way: str, dag_id: str, emulator: Emulator, home: Path, folder: Path) -> None:
        self._way, self._service = way, emulator.service
        operation = emulator.service.add("tried") if dag_id.startswith("sensor") else ""
        variables = {
            "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": emulator.airflow_connection(),
            "OPERATION": operation,
            "TRIED": dag_id,
        }
        self.terminal = Terminal(command(way, dag_id, folder), environment(home, **variables), str(folder))

    def _until(self, seen: str) -> None:
        def looks() -> bool:
            assert not self.terminal.has_ended, self.terminal.shown
            return self.is_waited_for if not seen else seen in self.terminal.shown

        wait_until(looks, what=f"{self._way}: {seen or 'the waiting'}", interval=0.1)

    @property
    def is_waited_for(self) -> bool:
        """Whether the operation is being polled: by the task, or by the trigger in its process."""
        return any(operation.reads >= 3 for operation in self._service.operations.values())

    def interrupt(self, *, after: str = "") -> None:
        """Press Ctrl-C while the operation is waited for, or after something was shown."""
        self._until(after)
        self.terminal.press(CTRL_C)

    def end(self) -> None:
        """Wait until the command has ended; a shell goes on, until it is left."""
        if self._way == "shell":
            self._until(">>> ")
            self.terminal.press(CTRL_D)
        wait_until(lambda: self.terminal.has_ended, what=f"{self._way} to end")

    @property
    def states(self) -> list[str]:
        """The states of all operations: another try would have started a second one."""
        return [self._service.state(name) for name in self._service.operations]


#: One of each way and of each place where a task waits; `make nightly` tries the others as well. A shell and pytest are
#: the same whichever Airflow there is.
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
def test_cancelled_at_once(way: str, dag_id: str, emulator: Emulator, home: Path, tmp_path: Path) -> None:
    tried = Tried(way, dag_id, emulator, home, tmp_path)
    with tried.terminal:
        tried.interrupt()
        wait_until(partial(_is_cancelled, emulator), what=f"{way}: the cancel")
        tried.end()
        assert tried.states == ["CANCELLED"], tried.terminal.shown
        assert "interrupted (Ctrl-C)" in tried.terminal.shown
        assert ": cancelled (CANCELLED" in tried.terminal.shown


def _is_cancelled(emulator: Emulator) -> bool:
    return bool(emulator.service.requests("POST", "*:cancel"))


@pytest.mark.parametrize("dag_id", ["export_worker_2", pytest.param("export_deferrable_0", marks=pytest.mark.nightly)])
def test_a_second_ctrl_c_says_what_may_still_run(dag_id: str, emulator: Emulator, home: Path, tmp_path: Path) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=3600)
    tried = Tried("dags test", dag_id, emulator, home, tmp_path)
    with tried.terminal:
        tried.interrupt()
        tried.interrupt(after="cancel requested")
        tried.end()
        [name] = emulator.service.operations
        assert f"Interrupted again: {name} may still run" in tried.terminal.shown


def test_what_fails_in_tasks_test_is_not_tried_again(emulator: Emulator, home: Path, tmp_path: Path) -> None:
    """Its number of a try is 0, and the task may say that it is up for retry."""
    tried = Tried("tasks test", "failing_worker_2", emulator, home, tmp_path)
    with tried.terminal:
        tried.end()
        assert tried.states == ["CANCELLED"], tried.terminal.shown
