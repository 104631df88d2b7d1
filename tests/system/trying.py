"""Runs a DAG in a terminal as its author does, in an Airflow of the author's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from terminal import CTRL_C, CTRL_D, Terminal

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.operations import EmulatedOperation

FOLDER = Path(__file__).parent / "tried"
AIRFLOW = str(Path(sys.executable).parent / "airflow")
#: The description of the operation under test.
TRIED = "tried"

IN_PYTEST = """
def test_dag():
    import tried
    assert getattr(tried, {dag_id!r}).test().state == "success"
"""
IN_A_SHELL = "import tried; run = getattr(tried, {dag_id!r}).test()"


def make_home(home: Path) -> None:
    """Make an AIRFLOW_HOME with a database."""
    home.mkdir(exist_ok=True)
    subprocess.run([AIRFLOW, "db", "migrate"], env=environment(home), check=True, capture_output=True)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment variables of an author's shell."""
    paths = (str(FOLDER), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    own = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER), "TERM": "dumb", "COLUMNS": "200"}
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", **more}


def command(way: str, dag_id: str, folder: Path) -> list[str]:
    """Return the command that an author types."""
    (folder / "test_tried.py").write_text(IN_PYTEST.format(dag_id=dag_id), encoding="utf-8")
    commands = {
        "dags test": [AIRFLOW, "dags", "test", dag_id],
        "tasks test": [AIRFLOW, "tasks", "test", dag_id, "task"],
        "python dag.py": [sys.executable, str(FOLDER / "tried.py")],
        "shell": [sys.executable, "-i", "-c", IN_A_SHELL.format(dag_id=dag_id)],
        "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", str(folder / "test_tried.py")],
    }
    return commands[way]


class Tried:
    """A DAG that an author runs in a terminal; it holds one operation."""

    def __init__(self, way: str, dag_id: str, emulator: Emulator, home: Path, folder: Path) -> None:
        self._way, self._service = way, emulator.service
        self._before = set(self._service.operations)
        operation = self._service.add(TRIED) if dag_id.startswith("sensor") else ""
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
    def _operations(self) -> list[EmulatedOperation]:
        operations = list(self._service.operations.values())
        return [one for one in operations if one.name not in self._before and one.description == TRIED]

    @property
    def is_waited_for(self) -> bool:
        """Whether the operation is being polled: by the task, or by the trigger in its process."""
        return any(operation.reads >= 3 for operation in self._operations)

    def interrupt(self, *, after: str = "") -> None:
        """Press Ctrl-C while the operation is polled, or once a text is shown."""
        self._until(after)
        self.terminal.press(CTRL_C)

    def end(self) -> None:
        """Wait until the command has ended. A shell ends only after Ctrl-D, so press that at its prompt."""
        if self._way == "shell":
            self._until(">>> ")
            self.terminal.press(CTRL_D)
        wait_until(lambda: self.terminal.has_ended, what=f"{self._way} to end")

    @property
    def states(self) -> list[str]:
        """The states of its operations: another try would have started a second operation."""
        return [self._service.state(operation.name) for operation in self._operations]
