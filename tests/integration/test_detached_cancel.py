"""More operations than a killed task has time to cancel are cancelled in a process that outlives it."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from eventually import eventually

from airflow_ee_provider.earth_engine.protocol.starting import Start
from airflow_ee_provider.earth_engine.transport import detached_cancel
from airflow_ee_provider.earth_engine.transport.detached_cancel import PROGRAM, cancel_in_another_process
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.lifecycle import cancelling
from airflow_ee_provider.lifecycle.cancelling import MOST_IN_TIME, cancel_before_the_end

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

MANY = MOST_IN_TIME + 50

#: A task's process that hands its operations over and is killed at once.
KILLED = """
import os, signal, sys
from airflow_ee_provider.earth_engine.transport.detached_cancel import cancel_in_another_process
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
hook = EarthEngineHook()
print(cancel_in_another_process(hook.account, hook.account.names(sys.argv[1:])), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    return earth_engine_emulator.service


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait up to a minute for such a process to begin."""
    monkeypatch.setattr(cancelling, "BEGINS_WITHIN", 60.0)


def add(service: Service, count: int) -> list[str]:
    return [
        service.add(f"tile {number}", pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
        for number in range(count)
    ]


def wait_until_cancelled(service: Service, names: list[str]) -> None:
    eventually(lambda: {service.state(name) for name in names} == {"CANCELLED"}, "all to be cancelled")


def wait_for_end(process: int) -> None:
    """Wait until a process has ended, so that none remains."""
    eventually(
        lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE,
        "the process to end",
    )


def test_all_operations_are_cancelled_although_the_tasks_process_is_killed(service: Service) -> None:
    names = add(service, MANY)

    ran = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", KILLED, *names], capture_output=True, text=True, check=False
    )

    assert ran.returncode == -9, ran.stderr
    wait_until_cancelled(service, names)
    wait_for_end(int(ran.stdout.split()[-1]))


@pytest.mark.parametrize("first", ["", "sys.path.insert(0, os.getcwd())", "sys.path.insert(0, '')"])
def test_files_in_the_current_folder_are_not_imported_as_modules(service: Service, tmp_path: Path, first: str) -> None:
    names = add(service, 3)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    for name in ("json", "requests", "logging", "urllib3", "google", "dataclasses", "airflow_ee_provider", "idna"):
        (here / f"{name}.py").write_text("raise SystemExit(__file__)")
    program = elsewhere / "program.py"
    program.write_text(KILLED.replace("print(", f"hook.get_conn()\n{first}\nprint("))

    ran = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, program, *names], capture_output=True, text=True, check=False, cwd=here
    )

    assert ran.returncode == -9, ran.stderr
    wait_until_cancelled(service, names)
    wait_for_end(int(ran.stdout.split()[-1]))


def test_a_process_that_ends_at_once_is_not_reported_as_cancelling(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = add(service, MANY)
    monkeypatch.setattr(detached_cancel, "PROGRAM", "raise ImportError('no requests here')")

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"))

    assert "ended at once: ImportError: no requests here" in caplog.text
    assert "The background process" not in caplog.text
    assert {result.outcome.text for result in results} == {"cancelled"}


def test_the_task_does_not_wait_for_a_process_that_does_not_begin(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = add(service, MANY)
    monkeypatch.setattr(detached_cancel, "PROGRAM", "import time; time.sleep(20)")
    monkeypatch.setattr(cancelling, "BEGINS_WITHIN", 0.3)

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"))

    assert "Could not start a background process" in caplog.text
    assert {result.outcome.text for result in results} == {"cancelled"}


def test_the_process_writes_each_failed_cancel_to_airflows_log(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    [name] = add(service, 1)
    service.fail("permission_denied", times=None, path="*:cancel")
    hook = EarthEngineHook()

    wait_for_end(cancel_in_another_process(hook.account, hook.account.names([name])))

    assert f"{name}: error (" in capfd.readouterr().err


#: As Airflow 3 starts a task: its standard error is a socket to the process that supervises it.
SUPERVISED = """
import os, socket, sys
read, written = socket.socketpair()
if not os.fork():
    os.dup2(written.fileno(), 2)
    from airflow_ee_provider.earth_engine.transport import detached_cancel
    os.write(detached_cancel._open_log_of_airflow(), b"a line")
    os._exit(0)
written.close()
os.wait()
print("a socket has", read.recv(99))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Only Linux has this folder.")
def test_the_log_of_airflow_is_not_the_tasks_socket_to_its_supervisor() -> None:
    ran = subprocess.run(  # noqa: S603 (this interpreter)
        [sys.executable, "-c", SUPERVISED], capture_output=True, text=True, check=True
    )

    assert (ran.stderr, ran.stdout) == ("a line", "a socket has b''\n")


def test_no_secret_is_in_the_command_line_or_environment_of_the_process(service: Service) -> None:
    service.fail("unavailable", times=None)  # The process must still run when it is inspected.
    hook = EarthEngineHook()

    process = cancel_in_another_process(hook.account, hook.account.names(add(service, 1)))

    assert psutil.Process(process).cmdline()[1:] == ["-I", "-c", PROGRAM]
    assert psutil.Process(process).environ().keys() - os.environ.keys() <= {"COLUMNS", "LINES"}  # Readline's.
    service.faults.clear()
    wait_for_end(process)


def test_the_tasks_process_confirms_the_cancels_while_it_lives(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    names = add(service, MANY)
    service.finish(names[0])
    caplog.set_level(logging.INFO)

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"), timeout=300)

    outcomes = {str(result.name): result.outcome.text for result in results}
    assert outcomes.pop(names[0]) == "already finished"
    assert set(outcomes.values()) == {"cancelled"}
    assert "are too many to cancel before Airflow kills this process" in caplog.text


def test_the_tasks_process_cancels_if_no_other_process_can_start(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = add(service, MANY)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"))

    assert {result.outcome.text for result in results} == {"cancelled"}


def test_an_operation_that_the_task_has_cancelled_is_not_reported_as_already_finished(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = add(service, 3)
    service.fail("reset_after", times=None, path="*:cancel")

    def start_none(*_: object) -> int:
        service.faults.clear()
        wait_until_cancelled(service, names)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(detached_cancel, "cancel_in_another_process", start_none)

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"))

    assert [result.outcome.text for result in results] == ["cancelled"] * 3


def wait_for_the_one_in(log: str) -> None:
    """Wait for the end of the process that a log names."""
    [process] = re.findall(r"The background process (\d+) cancels", log)
    wait_for_end(int(process))


def test_an_operation_is_cancelled_once_earth_engine_answers_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    names = add(service, 2)
    service.fail("unavailable", times=None)

    results = cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"), wait_for_completion=False)

    assert {result.outcome.text for result in results} == {"still cancelling"}
    assert f"No answer from Earth Engine about {names[0]}" in caplog.text
    service.faults.clear()
    wait_until_cancelled(service, names)
    wait_for_the_one_in(caplog.text)


def test_an_operation_is_cancelled_although_the_response_to_its_start_was_lost(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    hook = EarthEngineHook()
    destination = {"cloudStorageDestination": {"bucket": "b"}}
    body = {"description": "tile", "expression": {"result": "0"}, "fileExportOptions": destination}
    start = Start("image:export", body, "a task's")
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    service.fail("reset_after", path="*:export")
    service.fail("unavailable", times=None)
    asking = threading.Thread(target=lambda: hook.start_once(start), daemon=True)
    asking.start()
    eventually(lambda: bool(service.operations), "the start")

    results = cancel_before_the_end(hook, [], logging.getLogger("task"), [start], wait_for_completion=False)

    assert not results
    assert "No answer from Earth Engine about image:export 'tile'" in caplog.text
    service.faults.clear()
    wait_until_cancelled(service, list(service.operations))
    assert len(service.operations) == 1
    wait_for_the_one_in(caplog.text)
    asking.join()


def test_the_task_does_not_wait_for_a_connection_that_hangs(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    names = add(service, 1)
    service.fail("delay", times=None, seconds=8)

    cancel_before_the_end(EarthEngineHook(), names, logging.getLogger("task"), wait_for_completion=False)

    assert f"No answer from Earth Engine about {names[0]}" in caplog.text
    service.faults.clear()
    wait_until_cancelled(service, names)
    wait_for_the_one_in(caplog.text)
