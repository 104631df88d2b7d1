"""Replaces what the provider's code uses in the model: the clock, threads, transports, and requests to Airflow."""

from __future__ import annotations

import _thread
import asyncio
import importlib
import json
import logging
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from unittest import mock

from database_model import TASK
from official import CREDENTIALS, ENDPOINT, sender
from world import PROJECT, QUESTION, Process

from airflow_ee_provider.base import process, run_xcoms, stored_values, task_states
from airflow_ee_provider.earth_engine.auth.credentials import Account
from airflow_ee_provider.earth_engine.ee_client.intercepted import InterceptingTransport
from airflow_ee_provider.earth_engine.model.errors import ConnectionMissingError
from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.earth_engine.protocol.exit_cleanup import cancel_until_confirmed
from airflow_ee_provider.earth_engine.transport import detached_cancel, drivers, shared_client, transports
from airflow_ee_provider.exports import recorder
from airflow_ee_provider.hooks.base import ConnectionHook
from airflow_ee_provider.lifecycle import asking_airflow, ending, owning_task
from airflow_ee_provider.notifications import earth_engine as notifications
from airflow_ee_provider.operators import stale
from airflow_ee_provider.sensors import earth_engine as sensors
from airflow_ee_provider.tracking import notes, record, retry_memory, run, store
from airflow_ee_provider.tracking.holders import orphans_among
from airflow_ee_provider.triggers import base as trigger_base
from airflow_ee_provider.triggers import earth_engine as triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_model import Airflow
    from world import World

    from airflow_ee_provider.earth_engine.model.operations import Operation

try:
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
except ImportError:
    pass

# Objects of a killed process are finalised later, and then raise errors because their world is gone.
sys.unraisablehook = lambda _unraisable: None

ACCOUNT = Account(f"{ENDPOINT}/v1", CREDENTIALS, PROJECT)


class _Session:
    def __init__(self, account: Account) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


class _AsyncSession:
    async def close(self) -> None: ...


def _questions(world: World, airflow: Airflow) -> dict[str, Any]:  # noqa: C901 (a dozen of them)
    """Return replacements for the provider's requests to Airflow, by the function's name in `base`."""

    def state(_ti: Any) -> str:
        airflow.asked_at = world.now
        world.step("state?")
        if airflow.row.state == "removed":
            return "deleted"
        return "cleared" if airflow.row.state == "none" else airflow.row.state

    def is_run_active_now(_ti: Any) -> bool:
        world.step("run's state?")
        return airflow.run_state in ("running", "queued")

    def own_try(_ti: Any, key: str) -> int | None:
        world.step(f"XCom {key}?")
        return airflow.xcoms[TASK].get(key)

    def xcom(key: str, _dag: str, _run: str, task_id: str, index: int = -1) -> Any:
        world.step(f"XCom {key}?")
        return airflow.xcoms[task_id, index].get(key)

    def set_xcom(key: str, value: Any, ti: Any) -> None:
        world.step(f"XCom {key}")
        airflow.xcoms[ti.task_id, ti.map_index][key] = value

    def xcoms_of_run(key: str, *_: Any) -> Iterator[tuple[str, Any]]:
        world.step(f"all XComs {key}?")
        for instance, found in airflow.xcoms.items():
            if key in found:
                yield instance[0], found[key]

    def variable(key: str) -> str | None:
        world.step("Variable?")
        airflow.read_in = airflow.row.try_number
        return airflow.variables.get(key)

    def set_variable(key: str, text: str, _description: str) -> None:
        world.step("Variable")
        airflow.variables[key] = text
        airflow.remember(json.loads(text))

    def delete_variable(key: str) -> None:
        world.step("Variable deleted")
        airflow.variables.pop(key, None)

    def add_listener(listener: object) -> None:
        assert world.current is not None
        world.current.listeners.append(listener)

    def remove_listener(listener: object) -> None:
        assert world.current is not None
        world.current.listeners.remove(listener)

    def states_of(_dag: str, run_ids: Any, _tasks: Any = ()) -> dict[tuple[str, str], str]:
        return {(run_id, "task_0"): state(None) for run_id in run_ids}

    def is_asking_airflow() -> bool:
        return not airflow.is_2 and world.is_asking

    def resend_sigterm(seconds: float) -> None:
        process = world.current
        assert process is not None
        world.after(seconds, lambda: process.signal(process.operator.on_kill))

    return {
        "own_state": state,
        "is_run_active_now": is_run_active_now,
        "own_try": own_try,
        "xcom": xcom,
        "set_xcom": set_xcom,
        "xcoms_of_run": xcoms_of_run,
        "HAS_TASK_STATE_STORE": airflow.version.has_store,
        "variable": variable,
        "set_variable": set_variable,
        "delete_variable": delete_variable,
        "states_of_run": lambda *_: {"task_0": airflow.row.state, "task_1": "running", "bystander": "running"},
        "add_listener": add_listener,
        "remove_listener": remove_listener,
        "calls_before_stopping": lambda _ti: True,
        "states_of": states_of,
        "calls_triggers_on_kill": lambda: airflow.version.tells_triggers,
        "is_a_dag_test": lambda _ti: False,
        "is_asking_airflow": is_asking_airflow,
        "resend_sigterm": resend_sigterm,
        "threads_may_ask_airflow": lambda: True,
        "runs_a_task": lambda _ti: world.current is not None and world.current.kind.startswith("try"),
        "AIRFLOW_3": not airflow.is_2,
    }


def _sync_to_async(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(QUESTION)
        return function(*args, **kwargs)

    return call


@contextmanager
def in_model(world: World, airflow: Airflow) -> Iterator[None]:  # noqa: C901 (a list of replacements)
    """Run the provider's code in a world."""

    class VirtualDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(world.now, tz)

    def opened(_hook: Any) -> Account:
        world.step("reads the connection")
        if world.now < world.connection_away_until:
            raise ConnectionMissingError("The connection could not be read.")
        world.step("loads google-auth", 0.2)
        return ACCOUNT

    class Transport:
        def __init__(self, *_: Any) -> None: ...

        def send(self, request: Any) -> Any:
            return world.send(request)

    class AsyncTransport:
        def __init__(self, *_: Any) -> None: ...

        async def send(self, request: Any) -> Any:
            return await world.send_async(request)

    def in_another_process(account: Account, names: Any, starts: Any = ()) -> int:
        process = Process(world, "a process that outlives it")
        flow = cancel_until_confirmed(account.project, names, starts, timeout=detached_cancel.TIMEOUT)
        process.start(lambda: drivers.run(flow, Transport(), logging.getLogger()))
        return 1

    async def session() -> _AsyncSession:
        return _AsyncSession()

    def find_orphans(operations: list[Operation], _: Any) -> dict[str, str]:
        return orphans_among((str(one.name) for one in operations), airflow.holdings() if operations else ())

    # In Airflow 2, this module queries the database for a sensor's first reschedule.
    sensor_module = importlib.import_module(sensors.BaseSensorOperator.__module__)
    zones = sensor_module.timezone
    patches: list[tuple[Any, str, Any]] = [
        (time, "sleep", world.sleep),
        (time, "time", lambda: world.now),
        (time, "monotonic", lambda: world.now),
        (_thread, "start_new_thread", world.start_thread),
        (drivers, "SimpleQueue", world.queue),
        (process, "SimpleQueue", world.queue),
        (recorder, "SimpleQueue", world.queue),
        (owning_task, "datetime", VirtualDatetime),
        (zones, "utcnow", lambda: datetime.fromtimestamp(world.now, timezone.utc)),
        (transports, "RequestsTransport", Transport),
        (detached_cancel, "cancel_in_another_process", in_another_process),
        (InterceptingTransport, "_send", sender(world)),
        (stale, "find_orphans", find_orphans),
        (shared_client, "AiohttpTransport", AsyncTransport),
        (shared_client, "aiohttp_session", session),
        (ConnectionHook, "_open", opened),
        (
            importlib.import_module("airflow_ee_provider.hooks.earth_engine").EarthEngineHook,
            "get_conn",
            lambda hook: _Session(hook.account),
        ),
        (importlib.import_module("asgiref.sync"), "sync_to_async", _sync_to_async),
        (store, "_written", None),
        (store, "_RECORDING", world.lock()),
        (shared_client, "_CLIENTS", {}),
    ]
    if hasattr(sensor_module, "_orig_start_date"):
        first = datetime.fromtimestamp(airflow.first_started, timezone.utc)
        patches.append((sensor_module, "_orig_start_date", lambda **_: first))
    modules = (
        process,
        run_xcoms,
        stored_values,
        task_states,
        owning_task,
        ending,
        asking_airflow,
        record,
        notes,
        recorder,
        store,
        retry_memory,
        run,
        triggers,
        trigger_base,
        notifications,
    )
    modules += (importlib.import_module("airflow_ee_provider.exports.exporting"),)
    for name, answer in _questions(world, airflow).items():
        patches += [(module, name, answer) for module in modules if hasattr(module, name)]
    retries.BACKOFF.jitter.seed(1)
    logging.disable(logging.CRITICAL)
    with ExitStack() as stack:
        stack.callback(logging.disable, logging.NOTSET)
        for target, name, value in patches:
            stack.enter_context(mock.patch.object(target, name, value))
        yield
