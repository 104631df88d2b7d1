"""A kill interrupts the write of a log line: in Airflow 3, structlog's lock is not reentrant."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

#: Airflow's handler of SIGTERM, and a task that receives SIGTERM while it writes each of its first three lines.
KILLED_AMID_A_LINE = """
import inspect, io, os, signal, sys, time
from airflow.sdk.log import configure_logging
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

class Interrupted(io.RawIOBase):
    mode = "wb"
    signals = 3

    def writable(self):
        return True

    def write(self, line):
        os.write(2, line)
        if self.signals:
            self.signals -= 1
            os.kill(os.getpid(), signal.SIGTERM)
        return len(line)

sensor = EarthEngineOperationsSensor(task_id="wait", operation_names=[sys.argv[1]], cancel_on_kill=True)
sensor.hook.preload()
signal.signal(signal.SIGTERM, lambda *_: sensor.on_kill())
newer = "json_output" in inspect.signature(configure_logging).parameters  # Since Airflow 3.1.
as_in_a_worker = {"json_output": True} if newer else {"enable_pretty_log": False, "sending_to_supervisor": True}
configure_logging(**as_in_a_worker, output=Interrupted())
sensor.log.info("A line, amid which the task is told to end.")
for _ in range(100):
    time.sleep(0.1)
"""


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 logs with the standard library, the locks of which are reentrant.")
def test_a_kill_during_a_log_line_cancels_the_operation(earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    name = service.add("ndvi")
    connection = {"AIRFLOW_CONN_EARTH_ENGINE_DEFAULT": earth_engine_emulator.airflow_connection()}
    command = [sys.executable, "-c", KILLED_AMID_A_LINE, name]
    # A time limit: a process in a deadlock never ends.
    ended = subprocess.run(command, env={**os.environ, **connection}, timeout=600, check=False, capture_output=True)
    assert service.state(name) == "CANCELLED", ended.stderr.decode()
    assert b"was killed; cancelling" in ended.stderr
