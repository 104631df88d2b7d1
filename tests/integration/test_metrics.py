"""The metrics of operations that a collector of Airflow's metrics receives."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from eventually import eventually
from statsd_server import StatsdServer

from airflow_ee_provider.earth_engine.model import metrics
from airflow_ee_provider.operators.cancel import CancellingOperator, EarthEngineCancelOperationsOperator
from airflow_ee_provider.operators.stale import EarthEngineCancelStaleOperationsOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_ee_provider.emulator import Emulator

ROOT = Path(__file__).parents[2]

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import one_task
dag = vars(one_task)[sys.argv[2]]
dag.test(run_conf={"operation_names": sys.argv[3:]})
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    with StatsdServer() as running:
        for name, value in running.settings().items():
            monkeypatch.setenv(name, value)
        yield running


def run(dag_id: str, *names: str) -> None:
    """Run a DAG in a separate process: Airflow reads only once whether metrics are collected."""
    dags = ROOT / "tests" / "integration" / "dags"
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", RUN, str(dags), dag_id, *names], check=True, capture_output=True, timeout=600
    )


@pytest.mark.usefixtures("airflow_database")
def test_started_and_ended_operations_are_counted_by_dag(server: StatsdServer, earth_engine_emulator: Emulator) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5)
    earth_engine_emulator.service.fail("unavailable")

    run("export_in_worker")

    expected = {
        "operations_started,dag_id=export_in_worker",
        "operations_ended,dag_id=export_in_worker,state=succeeded",
    }
    eventually(lambda: expected <= server.counts.keys(), "the metrics")
    assert server.counts["operations_started,dag_id=export_in_worker"] == 1
    assert server.counts["requests,status=503"] == server.counts["request_retries"] == 1
    assert {"earth_engine.pending_time", "earth_engine.running_time", "earth_engine.eecu_seconds"} <= server.names


@pytest.mark.usefixtures("airflow_database")
def test_a_cancel_is_counted_with_its_cause_and_its_outcome(
    server: StatsdServer, earth_engine_emulator: Emulator
) -> None:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)

    run("cancel_in_worker", earth_engine_emulator.service.add("x"))

    eventually(
        lambda: (
            server.counts["cancels,cause=operator,outcome=cancelled,dag_id=cancel_in_worker"] == 1
            or server.counts["cancels,cause=operator,dag_id=cancel_in_worker,outcome=cancelled"] == 1
        ),
        "the metrics",
    )


def test_a_metrics_collector_that_fails_raises_no_error_in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def incr(self, *_: object, **__: object) -> None:
            raise OSError("no route")

    monkeypatch.setattr(metrics, "find_collector", Broken)
    monkeypatch.setattr(metrics, "_process", None)
    monkeypatch.setattr(metrics, "_collector", None)

    for _ in range(1000):
        metrics.measure("requests", status=200)
        metrics.flush()


def test_a_missing_metrics_collector_raises_no_error_in_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_be_had() -> None:
        raise AttributeError("this version of Airflow has no such thing")

    monkeypatch.setattr(metrics, "find_collector", cannot_be_had)
    monkeypatch.setattr(metrics, "_process", None)
    monkeypatch.setattr(metrics, "_collector", None)

    metrics.measure("requests", status=200)


class Hanging:
    """A collector that hangs, as if the interrupted code had its lock."""

    def __init__(self) -> None:
        self.asked, self.is_over = threading.Event(), threading.Event()

    def incr(self, *_: object, **__: object) -> None:
        self.asked.set()
        self.is_over.wait()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    collector = Hanging()
    import_module("airflow_ee_provider.hooks.earth_engine")  # It sets where Airflow's collector is found.
    monkeypatch.setattr(metrics, "find_collector", lambda: collector)
    monkeypatch.setattr(metrics, "_process", None)
    monkeypatch.setattr(metrics, "_collector", None)
    monkeypatch.setattr(metrics, "_noted", deque())
    yield collector
    collector.is_over.set()


def test_a_kill_does_not_wait_for_the_metrics_collector(hanging: Hanging, earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    name = service.add("x")
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names=[name], cancel_on_kill=True)
    sensor.hook.preload()

    sensor.on_kill()

    assert service.state(name) == "CANCELLED"
    assert hanging.asked.is_set()  # By a thread, once all else was done.


def test_no_metrics_are_kept_without_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_collector", lambda: None)
    monkeypatch.setattr(metrics, "_process", None)
    monkeypatch.setattr(metrics, "_collector", None)
    before = len(metrics._noted)

    metrics.measure("requests", status=200)

    assert len(metrics._noted) == before


def test_the_page_and_the_dashboard_have_every_metric() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    dashboard = (ROOT / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8")

    assert all(f"`{name}`" in page for name in metrics.METRICS)
    shown = {name for name in metrics.METRICS if name.replace(".", "_") in dashboard}
    assert shown == set(metrics.METRICS)


@pytest.mark.parametrize("operator", [EarthEngineCancelOperationsOperator, EarthEngineCancelStaleOperationsOperator])
def test_the_page_has_every_cause_of_a_cancel(operator: type[CancellingOperator]) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

    assert all(f"`{cause}`" in page for cause in metrics.CAUSES)
    assert operator.cause in metrics.CAUSES
