"""Credentials that expire, are revoked, or lack a permission while an operation is waited for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from tokens import TOKEN, TokenServer

from airflow_ee_provider.earth_engine import errors
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationSensor
from airflow_ee_provider.triggers.earth_engine import EarthEngineOperationTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service


@pytest.fixture
def tokens(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    with TokenServer(expires_in=1) as server:
        connection = server.airflow_connection(earth_engine_emulator.url)
        monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", connection)
        yield server


@pytest.fixture
def service(tokens: TokenServer, earth_engine_emulator: Emulator) -> Service:  # noqa: ARG001 (it is to be there)
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    return earth_engine_emulator.service


def in_a_worker(name: str) -> dict[str, Any]:
    """Wait, and return what became of it as a trigger's event says it."""
    try:
        return {"result": [EarthEngineHook().wait_for_operation(name, poll_interval=0.2).as_dict()]}
    except errors.EarthEngineError as error:
        return {"error": str(error), "permanent": error.permanent}


def in_the_triggerer(name: str) -> dict[str, Any]:
    trigger = EarthEngineOperationTrigger(
        operation_names=[name], earth_engine_conn_id="earth_engine_default", poll_interval=0.2
    )

    async def wait() -> dict[str, Any]:
        async for event in trigger.run():
            found: dict[str, Any] = event.payload
        return found

    return asyncio.run(asyncio.wait_for(wait(), 30))


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_the_waiting_goes_on_with_new_tokens(
    wait: Callable[[str], dict[str, Any]], service: Service, tokens: TokenServer
) -> None:
    event = wait(service.add("x", run_seconds=1))

    assert event["result"][0]["state"] == "SUCCEEDED"
    assert tokens.given > 2
    assert {entry["authorized"] for entry in service.journal} == {True}


@pytest.mark.parametrize("wait", [in_a_worker, in_the_triggerer])
def test_revoked_credentials_end_the_waiting_and_the_error_says_what_to_do(
    wait: Callable[[str], dict[str, Any]], service: Service, tokens: TokenServer
) -> None:
    name = service.add("x")
    real = service.get

    def revoke_after_the_first_look(asked: str) -> dict[str, Any]:
        tokens.revoked = True
        return real(asked)

    service.get = revoke_after_the_first_look  # type: ignore[method-assign]

    event = wait(name)

    assert event["permanent"]
    assert name in event["error"]
    assert "invalid_grant" in event["error"]
    assert "Check the connection's credentials" in event["error"]
    assert TOKEN not in event["error"]
    assert "PRIVATE KEY" not in event["error"]


def test_a_clean_up_says_loudly_what_it_could_not_cancel(
    service: Service, tokens: TokenServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    denied, revoked = service.add("x"), service.add("y")
    service.fail("permission_denied", path="*:cancel")

    EarthEngineOperationSensor(task_id="a", operation_names=[denied], cancel_on_kill=True).on_kill()
    tokens.revoked = True
    EarthEngineOperationSensor(task_id="b", operation_names=[revoked], cancel_on_kill=True).on_kill()

    captured = capfd.readouterr()
    log = captured.out + captured.err + caplog.text
    for name, why in ((denied, "earthengine.operations.update"), (revoked, "invalid_grant")):
        assert any(name in line and why in line and "It may still run" in line for line in log.splitlines())
    assert service.state(denied) == service.state(revoked) == "RUNNING"
