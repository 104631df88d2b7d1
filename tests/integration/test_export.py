"""The export operator in Airflow's own ``dag.test()``, against the emulator."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowTaskTimeout
from eventually import eventually
from instances import TaskInstance
from jinja2 import Environment

from airflow_ee_provider.exports import queue
from airflow_ee_provider.exports.exporting import ExportingOperator
from airflow_ee_provider.links.earth_engine import EarthEngineOutputLink
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
)
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator

PLACES = ("worker", "triggerer")

BODY = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=1, cancel_seconds=0.3)
    return earth_engine_emulator


@pytest.mark.parametrize("place", PLACES)
def test_an_export_is_started_once_and_its_result_returned(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    emulator.service.fail("reset_after", path="*:export")

    ran = run_dag(f"export_in_{place}")

    assert ran.state == "success"
    [operation] = emulator.service.operations.values()
    assert operation.description == f"export_in_{place}"
    assert ran.result["name"] == operation.name
    assert ran.result["destination_uris"] == ["https://console.developers.google.com/storage/browser/b/x"]


@pytest.mark.parametrize("place", PLACES)
def test_a_failed_export_fails_the_task(emulator: Emulator, run_dag: Callable[..., Ran], place: str) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=0.5, outcome="FAILED", message="Too many pixels.")

    ran = run_dag(f"export_in_{place}")

    assert ran.state == "failed"
    assert re.search("FAILED: .+, code 3: Too many pixels", ran.log)


def test_without_the_wait_the_operation_is_returned_as_started(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    emulator.service.behave(pending_seconds=60)

    ran = run_dag("export_and_go_in_worker")

    assert ran.state == "success"
    assert ran.result["state"] == "PENDING"


def test_an_export_that_takes_too_long_is_cancelled(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)

    with suppress(AirflowTaskTimeout):  # ``dag.test()`` of Airflow 2 lets it through.
        assert run_dag("export_impatiently_in_worker").state == "failed"

    [name] = emulator.service.operations
    assert emulator.service.state(name) == "CANCELLED"


@pytest.mark.parametrize("place", PLACES)
def test_an_export_that_exceeds_max_eecu_seconds_is_cancelled(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)

    ran = run_dag(f"export_frugally_in_{place}")

    [name] = emulator.service.operations
    assert ran.state == "failed"
    assert emulator.service.state(name) == "CANCELLED"
    assert "1 are allowed (max_eecu_seconds)" in ran.log


def test_an_invalid_body_is_refused_before_any_request(emulator: Emulator, run_dag: Callable[..., Ran]) -> None:
    ran = run_dag("export_nonsense_in_worker")

    assert ran.state == "failed"
    assert "2 export options: fileExportOptions, assetExportOptions" in ran.log
    assert not emulator.service.journal


def test_a_kill_during_the_start_cancels_the_operation(emulator: Emulator) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.3)
    body = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=body)
    emulator.service.fail("delay", path="*:export", seconds=1)
    context: Any = {"ti": TaskInstance(), "dag_run": None}
    # The request is sent, Earth Engine acts, and the signal comes before the answer.
    Timer(0.5, operator.on_kill).start()

    with pytest.raises(AirflowException, match="was killed"):
        operator.execute(context)

    [name] = emulator.service.operations
    eventually(lambda: emulator.service.state(name) == "CANCELLED", "the cancel")


def test_a_kill_before_the_start_prevents_the_start(emulator: Emulator) -> None:
    """Airflow 3 calls `on_kill`, and lets the task continue for five seconds."""
    body = {"expression": {"result": "0"}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=body)
    context: Any = {"ti": TaskInstance(), "dag_run": None}
    operator.pre_execute(context)
    operator.on_kill()

    with pytest.raises(AirflowException, match="was killed before"):
        operator.execute(context)

    assert not emulator.service.operations


def test_pre_execute_reads_the_operation_names_that_a_kill_needs(emulator: Emulator) -> None:
    names = [emulator.service.add("x", run_seconds=3600) for _ in range(2)]
    sensor = EarthEngineOperationsSensor(task_id="wait", operation_names=iter(names), cancel_on_kill=True)
    sensor.pre_execute({"ti": TaskInstance()})

    assert sensor.operation_names == names


@pytest.mark.parametrize(("tries", "state"), [(1, "RUNNING"), (2, "CANCELLED")])
def test_a_failed_trigger_cancels_the_export_only_if_there_is_no_next_try(
    emulator: Emulator, tries: int, state: str
) -> None:
    name = emulator.service.add("x", run_seconds=3600)
    operator = EarthEngineExportOperator(task_id="export", kind="image", body={}, retries=1)
    operator.operation_names = [name]
    context: Any = {"ti": TaskInstance(try_number=tries, max_tries=1)}

    with pytest.raises(AirflowException, match="Trigger failure"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, context)
    operator.ending.on_end("up_for_retry" if tries == 1 else "failed")

    assert emulator.service.state(name) == state


def test_the_links_lead_to_the_task_manager_and_to_the_output(emulator: Emulator, dags: dict[str, Any]) -> None:
    assert emulator
    [task] = dags["export_in_worker"].test().get_task_instances()

    links = {
        link.name: task.xcom_pull(task_ids="task", key=link.key) for link in ExportingOperator.operator_extra_links
    }

    assert links == {
        "Earth Engine Tasks": "https://console.cloud.google.com/earth-engine/tasks?project=earth-demo",
        "Export Output": "https://console.developers.google.com/storage/browser/b/x",
    }


def test_airflow_does_not_read_a_link_that_this_process_has_written() -> None:
    """As the task ends, Airflow 3 asks for each link and writes it again."""
    context: Any = {"ti": TaskInstance(run_id="links")}
    EarthEngineOutputLink.persist(context, "https://example.com")

    assert EarthEngineOutputLink().get_link(None, ti_key=context["ti"]) == "https://example.com"  # type: ignore[arg-type]


@pytest.mark.parametrize("place", PLACES)
def test_a_refused_first_poll_does_not_end_the_wait(
    emulator: Emulator, run_dag: Callable[..., Ran], place: str
) -> None:
    emulator.service.fail("too_many_requests", method="GET", headers={"Retry-After": "3600"})

    ran = run_dag(f"export_in_{place}")

    assert ran.state == "success", ran.log
    assert ran.result["state"] == "SUCCEEDED"


def test_without_the_wait_an_operation_that_cannot_be_read_is_returned_with_its_name(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    emulator.service.fail("too_many_requests", method="GET", headers={"Retry-After": "3600"}, times=None)

    ran = run_dag("export_and_go_in_worker")

    assert ran.state == "success", ran.log
    assert [ran.result["name"]] == list(emulator.service.operations)


@pytest.mark.parametrize(
    ("message", "final"),
    [("Internal error.", False), ("Computation timed out.", False), ("User memory limit exceeded.", True)],
)
def test_only_a_permanent_failure_prevents_the_next_try(emulator: Emulator, message: str, final: bool) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=0, outcome="FAILED", message=message)
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=BODY)

    with pytest.raises(AirflowException, match=message) as failed:
        operator.execute({"ti": TaskInstance(max_tries=1), "dag_run": None})

    assert isinstance(failed.value, AirflowFailException) == final


def test_a_task_that_fails_permanently_cancels_its_operation(emulator: Emulator) -> None:
    emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=BODY)
    operator.max_eecu_seconds = "five"  # Bypass the check of the parameter.

    with pytest.raises(AirflowFailException, match="max_eecu_seconds is 'five'"):
        operator.execute({"ti": TaskInstance(), "dag_run": None})
    operator.ending.on_end("failed")

    [name] = emulator.service.operations
    assert emulator.service.state(name) == "CANCELLED"


@pytest.mark.parametrize(
    ("operator", "wrong"),
    [
        (EarthEngineExportOperator, {"poll_interval": "soon"}),
        (EarthEngineExportOperator, {"poll_interval": timedelta(seconds=-1)}),
        (EarthEngineExportOperator, {"max_eecu_seconds": "5 hours"}),
        (EarthEngineExportOperator, {"priority": 10000}),
        (EarthEngineExportOperator, {"priority": 1.5}),
        (EarthEngineExportOperator, {"kind": "hologram"}),
        (EarthEngineExportOperator, {"cancel_on_kill": "perhaps"}),
        (EarthEngineExportOperator, {"stop_at_failure": "perhaps"}),
        (EarthEngineOperationsSensor, {"max_eecu_seconds": "many"}),
        (EarthEngineOperationsSensor, {"cancel_on_failure": "perhaps"}),
        (EarthEngineOperationsSensor, {"poll_interval": "soon"}),
        (EarthEngineCancelOperationsOperator, {"cancel_timeout": "soon"}),
        (EarthEngineCancelOperationsOperator, {"poll_interval": None}),
        (EarthEngineCancelStaleOperationsOperator, {"older_than": "yesterday"}),
        (EarthEngineCancelStaleOperationsOperator, {"limit": "all"}),
        (EarthEngineCancelOperationsOperator, {"not_found_ok": None}),
        (EarthEngineCancelOperationsOperator, {"scope": "everything"}),
        (EarthEngineCancelStaleOperationsOperator, {"operation_names": ["x"]}),
        (EarthEngineCancelStaleOperationsOperator, {"age_since": "update_time"}),
        (EarthEngineCancelOperationsNotifier, {"cancel_timeout": "soon"}),
        (EarthEngineCancelOperationsNotifier, {"scope": "everything"}),
    ],
)
def test_an_invalid_parameter_is_refused_by_name_when_the_dag_is_parsed(operator: Any, wrong: dict[str, Any]) -> None:
    [(name, _)] = wrong.items()
    needed: dict[str, Any] = {} if operator is EarthEngineCancelOperationsNotifier else {"task_id": "x"}
    needed |= {"kind": "image", "body": {}} if operator is EarthEngineExportOperator else {}
    needed |= {"operation_names": "x"} if operator is EarthEngineOperationsSensor else {}

    with pytest.raises((ValueError, TypeError, AirflowException), match=name):
        operator(**{**needed, **wrong})


@pytest.mark.parametrize(
    ("operator", "right"),
    [
        (EarthEngineCancelOperationsOperator, {"cancel_timeout": timedelta(minutes=1), "poll_interval": "{{ 5 }}"}),
        (EarthEngineCancelStaleOperationsOperator, {"older_than": 3600, "limit": "{{ params.limit }}"}),
        (EarthEngineCancelStaleOperationsOperator, {"older_than": "{{ macros.timedelta(days=1) }}"}),
        (EarthEngineExportOperator, {"kind": "{{ params.kind }}", "body": {}, "cancel_on_kill": "{{ params.own }}"}),
    ],
)
def test_numbers_durations_and_templates_are_accepted(operator: Any, right: dict[str, Any]) -> None:
    operator(task_id="x", **right)


def test_an_expression_is_not_rendered_and_no_nested_text_is_read_as_a_file(emulator: Emulator) -> None:
    expression = {"result": "0", "values": {"0": {"constantValue": "{% not ours %} {{ nor this }} x.json"}}}
    destination = {"bucket": "b", "filenamePrefix": "{{ ds }}/metadata.json"}
    body = {"expression": expression, "fileExportOptions": {"cloudStorageDestination": destination}}
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=body, workload_tag="tag.json")

    operator.render_template_fields({"ds": "2024"}, Environment(autoescape=False))  # noqa: S701
    operator.workload_tag = "tag"
    operator.execute({"ti": TaskInstance(), "dag_run": None})

    [request] = emulator.service.requests("POST", "*:export")
    assert request["body"]["expression"] == expression
    assert request["body"]["fileExportOptions"]["cloudStorageDestination"]["filenamePrefix"] == "2024/metadata.json"


def test_a_mapped_export_keeps_its_expression_and_renders_the_rest(
    emulator: Emulator, run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("mapped_export")

    assert ran.state == "success", ran.log
    [request] = emulator.service.requests("POST", "*:export")
    assert request["body"]["expression"]["values"]["0"] == {"constantValue": "{% not ours %} {{ nor this }}"}
    assert "{{" not in request["body"]["fileExportOptions"]["cloudStorageDestination"]["filenamePrefix"]


@pytest.mark.parametrize("kind", ["export", "import"])
def test_a_mapped_task_reads_its_template_file(emulator: Emulator, run_dag: Callable[..., Ran], kind: str) -> None:
    ran = run_dag(f"mapped_{kind}_of_a_file")

    assert ran.state == "success", ran.log
    [request] = emulator.service.requests("POST", f"*:{kind}")
    assert f"mapped_{kind}_of_a_file" in str(request["body"])


def test_a_start_is_repeated_while_the_queue_is_full(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "INITIAL_RETRY_DELAY", 0.5)
    emulator.service.fail("queue_full", path="*:export", times=2)
    operator = EarthEngineExportOperator(task_id="export", kind="image", body=BODY)

    assert operator.execute({"ti": TaskInstance(), "dag_run": None})["state"] == "SUCCEEDED"
