"""For each actor that cancels, no response about one operation affects the other operations."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from clocks import let_time_fly, run_quickly
from command_line import CommandLine
from hypothesis import HealthCheck, example, given, settings
from instances import TaskInstance
from odd_answers import ODD, PLACES, RAISING, Odd, OddEarthEngine
from task_states import forget_runs, set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, database_of_its_own
from airflow_ee_provider.collector.thread import make_collector
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator, EarthEngineExportOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clocks import QuickTime
    from ran import Ran

#: Seconds for which an actor waits for the confirmation of its cancels; other actors wait less.
CANCEL_TIMEOUT = 12.0

#: Responses of a captive portal, a proxy and a server that breaks off, and some that make libraries raise.
EXAMPLES = (
    b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n\xff<html>",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnot packed",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: \xff\r\n\r\n",
    b"HTTP/1.1 503 No\r\nRetry-After: 300\r\n\r\n",
    b"",
)


def of_any_answer(test: Any) -> Any:
    """Run a test with responses of all kinds, against the same Earth Engine each time."""
    for number, answer in enumerate([*EXAMPLES, *RAISING[:2]]):
        test = example(odd=Odd(PLACES[number % len(PLACES)], answer))(test)
    chosen = settings(max_examples=6, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
    return chosen(given(odd=ODD)(test))


@pytest.fixture
def earth_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddEarthEngine]:
    with OddEarthEngine(monkeypatch) as server:
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", server.connection)
        # Start no detached process at a kill: each would take half a second.
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
        yield server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> QuickTime:
    return let_time_fly(monkeypatch)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@of_any_answer
def test_a_notifier_cancels_the_other_operations(
    earth_engine: OddEarthEngine, clock: QuickTime, logged: Callable[[], str], odd: Odd
) -> None:
    earth_engine.begin(odd, clock)
    logged()

    notifier_of(earth_engine).notify({"ti": TaskInstance(), "reason": "failed"})

    earth_engine.check(logged())


@of_any_answer
def test_a_notifier_in_the_triggerer_cancels_the_other_operations(
    earth_engine: OddEarthEngine, clock: QuickTime, logged: Callable[[], str], odd: Odd
) -> None:
    earth_engine.begin(odd, clock)
    logged()

    notifier = notifier_of(earth_engine, cancel_timeout=5.0)  # In real time: the sleeps take none.
    run_quickly(notifier.async_notify({"ti": TaskInstance(), "reason": "failed"}), clock)

    earth_engine.check(logged(), longest=float("inf"))


def notifier_of(
    earth_engine: OddEarthEngine, cancel_timeout: float = CANCEL_TIMEOUT
) -> EarthEngineCancelOperationsNotifier:
    return EarthEngineCancelOperationsNotifier(
        operation_names=earth_engine.names, poll_interval=5, cancel_timeout=cancel_timeout
    )


@of_any_answer
def test_a_teardown_cancels_the_other_operations(earth_engine: OddEarthEngine, clock: QuickTime, odd: Odd) -> None:
    earth_engine.begin(odd, clock)
    operator = EarthEngineCancelOperationsOperator(
        task_id="a", operation_names=earth_engine.names, poll_interval=5, cancel_timeout=CANCEL_TIMEOUT
    )
    context: Any = {"ti": TaskInstance(), "dag_run": None}
    operator.pre_execute(context)

    try:
        said = str(operator.execute(context))
    except AirflowException as error:
        said = str(error)

    earth_engine.check(said)


@of_any_answer
def test_a_killed_task_cancels_the_other_operations(
    earth_engine: OddEarthEngine, clock: QuickTime, logged: Callable[[], str], odd: Odd
) -> None:
    earth_engine.begin(odd, clock)
    logged()
    task: Any = EarthEngineExportOperator(task_id="a", kind="image", body={})
    if odd.place in ("read", "list"):  # Both kinds of tasks behave the same.
        task = EarthEngineOperationsSensor(task_id="a", operation_names=[], cancel_on_kill=True)
    task.operation_names = earth_engine.names
    task.pre_execute({"ti": TaskInstance()})

    task.on_kill()

    earth_engine.check(logged())


@pytest.fixture
def recorded(earth_engine: OddEarthEngine, run_dag: Callable[..., Ran]) -> OddEarthEngine:
    """An Earth Engine whose operations a task of a failed run has recorded."""
    forget_runs()
    run_dag("held_owner", *earth_engine.names)
    set_states("held_owner", "failed", "failed")
    return earth_engine


@of_any_answer
def test_the_collector_cancels_the_other_operations(
    recorded: OddEarthEngine, clock: QuickTime, caplog: pytest.LogCaptureFixture, odd: Odd
) -> None:
    recorded.begin(odd, clock)
    caplog.clear()

    make_collector(database_of_its_own(), 0.0).look()

    recorded.check(caplog.text)


@of_any_answer
def test_the_command_line_cancels_the_other_operations(
    recorded: OddEarthEngine, clock: QuickTime, command_line: CommandLine, odd: Odd
) -> None:
    recorded.begin(odd, clock)
    which = ["orphans", "--cancel"] if odd.place == "list" else ["cancel", *recorded.names]

    done = command_line(*which, "--yes", "--timeout", f"{CANCEL_TIMEOUT:g}s", "--output", "json")

    assert done.returncode in (0, 1)
    if odd.place != "list":
        recorded.check(done.stdout)
    elif not done.stdout:  # The response is not a list, so there is no operation to choose.
        assert re.search("^(earth_engine_default: .+|There is nothing to cancel.)$", done.stderr, re.MULTILINE)


@pytest.fixture
def api(airflow_database: None) -> Iterator[Any]:  # noqa: ARG001 (its tables must be there)
    if not AIRFLOW_3:
        pytest.skip("Airflow 2 has no such pages")
    from page_client import api_server

    with api_server() as client:
        yield client


@of_any_answer
def test_the_page_cancels_the_other_operations(
    recorded: OddEarthEngine, clock: QuickTime, monkeypatch: pytest.MonkeyPatch, api: Any, odd: Odd
) -> None:
    from page_client import CANCEL, OPERATIONS, cache_nothing, role

    recorded.begin(odd, clock)
    cache_nothing(monkeypatch)

    listed = api.get(OPERATIONS, headers=role("admin"))
    answer = api.post(CANCEL, headers=role("admin"), json={"operation_names": recorded.names})

    assert (listed.status_code, answer.status_code) == (200, 200), listed.text + answer.text
    recorded.check(answer.text)
