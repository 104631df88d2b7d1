"""Both hooks through their real transports, against the emulator: the same methods, the same outcomes."""

from __future__ import annotations

import asyncio
import inspect
import json
import pydoc
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.model import errors
from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator

#: The limit for users; `conftest.py` lets tests poll more often.
SHORTEST_POLL_INTERVAL = 1.0
BODY = {
    "description": "ndvi",
    "expression": {"result": "0"},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}


@pytest.fixture
def emulator(earth_engine_emulator: Emulator) -> Emulator:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    return earth_engine_emulator


@pytest.fixture(params=[EarthEngineHook, EarthEngineAsyncHook], ids=["sync", "async"])
def call(request: pytest.FixtureRequest, emulator: Emulator) -> Callable[..., Any]:
    """Call a method of one hook or the other."""
    assert emulator

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(request.param(), method)(*args, **kwargs)
        return asyncio.run(result) if inspect.isawaitable(result) else result

    return call


def test_both_hooks_have_the_same_methods() -> None:
    def methods(hook: type) -> set[str]:
        members = inspect.getmembers(hook, inspect.isfunction)
        return {name for name, call in members if hasattr(call, "__wrapped__") and name != "client"}

    assert methods(EarthEngineHook) == methods(EarthEngineAsyncHook)
    assert methods(EarthEngineAsyncHook) >= {"get_operation", "list_operations", "cancel_operations", "start_export"}


def test_an_operation_can_be_started_read_cancelled_and_deleted(call: Callable[..., Any], emulator: Emulator) -> None:
    started = call("start_export", "image", BODY, request_id="run-1")
    again = call("start_export", "image", BODY, request_id="run-1")
    name = str(started.name)
    assert again.name == started.name

    assert call("get_operation", started.name.id).state.value == "RUNNING"
    assert [str(operation.name) for operation in call("list_operations")] == [name]
    call("cancel_operation", name)
    assert call("wait_for_operation", name, poll_interval=0.1).cancelled
    assert call("cancel_operations", name)[0].outcome.value == "ALREADY_FINISHED"
    call("delete_operation", name)

    with pytest.raises(errors.OperationNotFoundError):
        call("get_operation", name)
    assert not emulator.service.operations


def test_a_wait_stops_at_its_timeout(call: Callable[..., Any], emulator: Emulator) -> None:
    name = emulator.service.add("long")

    with pytest.raises(
        errors.OperationTimeoutError, match=rf"within 0.3 s; they keep running:\n  RUNNING( \d+ %)?: long \({name}\)"
    ):
        call("wait_for_operation", name, poll_interval=0.1, timeout=timedelta(seconds=0.3))


def test_a_list_follows_all_pages(call: Callable[..., Any], emulator: Emulator) -> None:
    names = {emulator.service.add("x") for _ in range(1201)}

    assert {str(operation.name) for operation in call("list_operations")} == names
    assert len(emulator.service.requests("GET", "projects/earth-demo/operations")) == 3


@pytest.mark.parametrize(
    "fault", ["too_many_requests", "unavailable", "internal", "reset", "truncated", "empty", "html"]
)
def test_a_transient_fault_is_overcome(call: Callable[..., Any], emulator: Emulator, fault: str) -> None:
    name = emulator.service.add("x")
    emulator.service.fail(fault)

    assert str(call("get_operation", name).name) == name
    assert len(emulator.service.requests("GET", name)) == 2


def test_a_retry_waits_for_the_time_in_the_retry_after_header(call: Callable[..., Any], emulator: Emulator) -> None:
    name = emulator.service.add("x")
    emulator.service.fail("too_many_requests", headers={"Retry-After": "2"})

    call("get_operation", name)

    first, second = emulator.service.requests("GET", name)
    assert second["time"] - first["time"] >= 2.0


@pytest.mark.parametrize("fault", ["reset", "reset_after", "truncated"])
def test_a_lost_response_to_an_export_starts_it_once(call: Callable[..., Any], emulator: Emulator, fault: str) -> None:
    emulator.service.fail(fault, path="*:export")

    operation = call("start_export", "image", BODY, request_id="run-1")

    assert list(emulator.service.operations) == [str(operation.name)]


def test_a_lost_response_to_an_export_without_a_request_id_is_an_error(
    call: Callable[..., Any], emulator: Emulator
) -> None:
    emulator.service.fail("reset_after", path="*:export")

    with pytest.raises(errors.TransientError, match="No answer from Earth Engine"):
        call("start_export", "image", BODY)

    assert len(emulator.service.operations) == 1


def test_a_cancel_whose_response_is_lost_is_sent_again(call: Callable[..., Any], emulator: Emulator) -> None:
    name = emulator.service.add("x")
    emulator.service.fail("reset_after", path="*:cancel")

    [result] = call("cancel_operations", name, poll_interval=0.1)

    assert emulator.service.state(name) == "CANCELLED"
    assert result.outcome.value == "CANCELLED"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("not_registered", "Register the project"),
        ("api_disabled", "Enable the API earthengine.googleapis.com"),
        ("quota_project_denied", "serviceusage.services.use"),
        ("permission_denied", "roles/earthengine.writer"),
    ],
)
def test_a_refusal_names_a_remedy_and_is_not_repeated(
    call: Callable[..., Any], emulator: Emulator, fault: str, says: str
) -> None:
    name = emulator.service.add("x")
    emulator.service.fail(fault, times=None)

    with pytest.raises(errors.PermissionDeniedError, match=says) as caught:
        call("cancel_operation", name)

    assert name in str(caught.value)
    assert len(emulator.service.journal) == 1


def test_an_invalid_name_is_refused_before_any_request(call: Callable[..., Any], emulator: Emulator) -> None:
    with pytest.raises(errors.InvalidOperationNameError):
        call("cancel_operations", ["projects/earth-demo/operations/A", "projects/earth-demo/operations/A?x=y"])

    assert not emulator.service.journal


def test_the_test_button_names_the_project_or_a_remedy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    good = EarthEngineHook().test_connection()
    emulator.service.fail("api_disabled")
    disabled = EarthEngineHook().test_connection()
    connection = json.loads(emulator.airflow_connection())
    del connection["extra"]["project"]
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
    projectless = EarthEngineHook().test_connection()
    monkeypatch.setenv(
        "AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", '{"conn_type": "earth_engine", "extra": {"key_path": "/no"}}'
    )
    keyless = EarthEngineHook().test_connection()

    assert good == (True, "Earth Engine answers for project earth-demo.")
    assert not disabled[0]
    assert "Enable the API" in disabled[1]
    assert projectless == (
        False,
        "There is no Cloud project for requests to Earth Engine. Set the connection's project, or pass project_id.",
    )
    assert not keyless[0]
    assert "The connection's key_path names no key file" in keyless[1]


def test_a_connection_of_the_google_provider_works_unchanged(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"project": "theirs", "quota_project": "", "is_anonymous": True, "host": emulator.url, "num_retries": 5}
    monkeypatch.setenv("AIRFLOW_CONN_GCP", json.dumps({"conn_type": "google_cloud_platform", "extra": extra}))

    assert EarthEngineHook("gcp").list_operations() == []
    assert emulator.service.requests("GET", "projects/theirs/operations")


def test_a_connection_of_another_type_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://reader@db/x")

    with pytest.raises(errors.CredentialsError, match=r"'warehouse' is .* 'postgres'.*google_cloud_platform"):
        _ = EarthEngineHook("warehouse").account


@pytest.mark.usefixtures("airflow_database")
def test_a_missing_or_unreadable_connection_does_not_use_default_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    credentials = tmp_path_factory.mktemp("adc") / "adc.json"
    user = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    credentials.write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))

    assert EarthEngineHook(None, project_id="mine").account.project == "mine"
    for absent in ("earth_engine_default", "mistyped"):
        with pytest.raises(
            errors.ConnectionMissingError, match=f"'{absent}' is not defined, or could not be read"
        ) as missing:
            _ = EarthEngineHook(absent).account
        assert not missing.value.permanent  # A secrets backend may have been unreachable.
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", '{"conn_type": "earth_engine"}')
    assert EarthEngineHook(project_id="mine").account.project == "mine"


SECRET = "s3cr3t-m4rk"  # noqa: S105
FORMS = {
    "text": SECRET,
    "json": json.dumps({"type": SECRET, "private_key": SECRET, "client_email": SECRET}),
    "broken json": '{"private_key": "' + SECRET,
    "object": {"type": "service_account", "private_key": SECRET, "client_email": "a@b", "token_uri": SECRET},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("field", ["key_path", "keyfile_dict", "credential_config_file", "key_secret_name", "project"])
def test_the_test_button_and_the_log_show_no_value_of_a_field(
    field: str,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/adc.json")
    connection = {"conn_type": "earth_engine", "extra": {field: FORMS[form]}}
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))

    worked, said = EarthEngineHook().test_connection()
    written = capfd.readouterr()

    assert not worked
    assert said
    assert SECRET not in said + caplog.text + written.out + written.err


@pytest.mark.parametrize("hook", [EarthEngineHook, EarthEngineAsyncHook])
def test_help_shows_parameters_and_return_types(hook: Any) -> None:
    shown = str(inspect.signature(hook.cancel_operations))
    page = pydoc.render_doc(hook, renderer=pydoc.plaintext)
    # From Python 3.13 on, each parameter of a long signature has its own line; from 3.14 on, its type has no quotes.
    without_spaces = "".join(page.replace("\n |", "").replace("'", "").split())

    assert shown.startswith("(self, names: 'Any', *, wait_for_completion")
    assert shown.endswith("-> 'list[CancelResult]'")
    assert "wait_for_operations(self,names:Any,*,poll_interval:float|timedelta=30.0" in without_spaces
    assert ":raises OperationTimeoutError: If some have not ended" in page


@pytest.mark.parametrize(
    ("method", "kwargs"),
    [
        ("wait_for_operation", {"poll_interval": 0}),
        ("wait_for_operations", {"poll_interval": 0.99}),
        ("wait_for_operations", {"poll_interval": float("nan")}),
        ("cancel_operations", {"poll_interval": timedelta(milliseconds=999)}),
        ("confirm_cancels", {"poll_interval": -1}),
        ("wait_for_room", {"unfinished": 0, "timeout": None, "options": WaitOptions(poll_interval=0.5)}),
    ],
)
def test_a_poll_interval_below_one_second_is_refused_before_anything_is_sent(
    call: Callable[..., Any], emulator: Emulator, monkeypatch: pytest.MonkeyPatch, method: str, kwargs: dict[str, Any]
) -> None:
    monkeypatch.setattr(waiting, "SHORTEST_POLL_INTERVAL", SHORTEST_POLL_INTERVAL)
    name = emulator.service.add("x")

    with pytest.raises(ValueError, match=r"poll_interval is .* and has to be .* from 1 "):
        call(method, name, **kwargs)

    assert not emulator.service.journal
