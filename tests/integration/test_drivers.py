"""Drivers run flows in threads."""

from __future__ import annotations

import concurrent.futures.thread
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.earth_engine.protocol.cancelling import cancel_and_confirm
from airflow_ee_provider.earth_engine.protocol.effects import LogMessage, SideBySide
from airflow_ee_provider.earth_engine.transport import drivers
from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.protocol.effects import Flow
    from airflow_ee_provider.emulator import Emulator

LOG = logging.getLogger(__name__)


def drive(flow: Flow[Any]) -> Any:
    hook = EarthEngineHook()
    with hook.get_conn() as session:
        return drivers.run(flow, RequestsTransport(session, hook.account.base_url), LOG)


def together(flows: list[Flow[int]]) -> Flow[list[int]]:
    return (yield SideBySide(flows))


def test_a_clean_up_does_not_wait_for_a_lock_of_the_interrupted_task(
    earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.1)
    names = [service.add("x") for _ in range(3)]
    service.fail("unavailable", times=3)  # The log must report the retries.

    def killed_while_it_logs_and_starts_threads() -> None:
        with caplog.handler.lock or threading.Lock(), concurrent.futures.thread._global_shutdown_lock:  # type: ignore[attr-defined]
            drive(cancel_and_confirm(EarthEngineHook().account.names(names), poll_interval=0.1))

    task = threading.Thread(target=killed_while_it_logs_and_starts_threads, daemon=True)
    task.start()
    task.join(60)

    assert not task.is_alive()
    assert [service.state(name) for name in names] == ["CANCELLED"] * 3
    assert "Trying again" in caplog.text


def test_an_error_in_a_flow_is_raised_once_all_other_flows_are_done(earth_engine_emulator: Emulator) -> None:
    ended = []

    def flow(number: int) -> Flow[int]:
        yield LogMessage(f"{number}")
        ended.append(number)
        return 1 // number

    with pytest.raises(ZeroDivisionError):
        drive(together([flow(number) for number in range(200)]))

    assert sorted(ended) == list(range(200))
    assert not earth_engine_emulator.service.journal


def test_flows_run_one_by_one_if_no_thread_can_be_started(
    earth_engine_emulator: Emulator,  # noqa: ARG001 (its connection)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    def flow(number: int) -> Flow[int]:
        yield LogMessage(f"{number}")
        return number

    monkeypatch.setattr("_thread.start_new_thread", refuse)

    assert drive(together([flow(number) for number in range(20)])) == list(range(20))


def test_results_come_in_the_order_of_their_flows(earth_engine_emulator: Emulator) -> None:
    def flow(number: int) -> Flow[int]:
        yield LogMessage(f"{number}")
        return number

    for count in (0, 1, 100):
        assert drive(together([flow(number) for number in range(count)])) == list(range(count))
    assert not earth_engine_emulator.service.journal
