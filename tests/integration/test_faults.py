"""Every request of the provider with every fault, through both real transports."""

from __future__ import annotations

import asyncio
import inspect
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_ee_provider.earth_engine.model import errors, limits
from airflow_ee_provider.earth_engine.protocol import retries
from airflow_ee_provider.earth_engine.protocol.stale import StaleCriteria
from airflow_ee_provider.earth_engine.protocol.starting import Start
from airflow_ee_provider.hooks.earth_engine import EarthEngineAsyncHook, EarthEngineHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

BODY = {
    "description": "ndvi",
    "expression": {"result": "0"},
    "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}},
}
QUICK: dict[str, Any] = {"poll_interval": 0.05}

#: Transient faults: each occurs once, or at every request.
PASSING = (
    "too_many_requests",
    "internal",
    "html",  # A proxy's 502.
    "unavailable",
    "timed_out",
    "reset",
    "reset_after",
    "delay",  # Longer than the read timeout.
    "truncated",
    "empty",
    "not_an_object",
)

#: Each request: the hook's method, its arguments, and the path on which the fault occurs.
REQUESTS: dict[str, tuple[str, Callable[[str], tuple[Any, ...]], dict[str, Any], str]] = {
    "get": ("get_operation", lambda name: (name,), {}, "*/operations/*"),
    "list": ("list_operations", lambda _: (), {}, "*/operations"),
    "cancel": ("cancel_operation", lambda name: (name,), {}, "*:cancel"),
    "cancel, then read": ("cancel_operations", lambda name: (name,), QUICK, "*/operations/*"),
    "read, then cancel": ("cancel_operations", lambda name: (name,), QUICK, "*:cancel"),
    "wait": ("wait_for_operation", lambda name: (name,), {**QUICK, "timeout": 1.0}, "*/operations/*"),
    "delete": ("delete_operation", lambda name: (name,), {}, "*/operations/*"),
    "export": ("start_export", lambda _: ("image", BODY, "run-1"), {}, "*:export"),
    "export once": ("start_once", lambda _: (Start("image:export", BODY, "dag/run/task", tries=2),), {}, "*:export"),
}


#: Together, these use all that the aiohttp transport does for a request. Both transports share the code that handles
#: a response.
THROUGH_AIOHTTP = ("get", "read, then cancel", "export once")

CASES = [
    *(("sync", what, fault) for what in REQUESTS for fault in PASSING),
    *(("async", what, fault) for what in THROUGH_AIOHTTP for fault in PASSING),
]


@pytest.fixture
def service(earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(retries.BACKOFF.jitter, "uniform", lambda *_: 0.0)
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=0.5, cancel_seconds=0.1)
    return earth_engine_emulator.service


def let_meet(service: Service, fault: str, monkeypatch: pytest.MonkeyPatch, *, delay: float = 1.0, **how: Any) -> None:
    """Inject a fault into requests, and shorten the read timeout if the fault is a delay."""
    if fault == "delay":
        monkeypatch.setattr(limits, "READ_TIMEOUT", 0.5)
    service.fail(fault, seconds=delay, **how)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    hook = {"sync": EarthEngineHook, "async": EarthEngineAsyncHook}[request.param]

    def call(method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(hook(), method)(*args, **kwargs)
        return asyncio.run(asyncio.wait_for(result, 30)) if inspect.isawaitable(result) else result

    return call


@pytest.mark.parametrize(("call", "what", "fault"), CASES, indirect=["call"])
def test_a_transient_fault_is_overcome(
    call: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch, what: str, fault: str
) -> None:
    method, arguments, kwargs, path = REQUESTS[what]
    name = service.add("x", run_seconds=0.3 if what == "wait" else 3600)
    let_meet(service, fault, monkeypatch, path=path)
    before = len(service.operations)

    try:
        result = call(method, *arguments(name), **kwargs)
    except (errors.FailedPreconditionError, errors.OperationNotFoundError):
        # The lost request had already taken effect.
        assert fault in ("reset_after", "delay", "truncated", "empty", "not_an_object")
        assert what in ("cancel", "delete")
        result = None

    if what.startswith("export"):
        assert len(service.operations) == before + 1
        assert str(result.name) in service.operations
    elif "cancel" in what:
        assert service.state(name) in ("CANCELLING", "CANCELLED")
    elif what == "delete":
        assert name not in service.operations
    elif what == "wait":
        assert result.succeeded
    if "," in what:
        assert service.state(name) == "CANCELLED"
        assert result[0].outcome.value == "CANCELLED"


@pytest.mark.parametrize(("call", "what", "fault"), CASES, indirect=["call"])
def test_a_lasting_fault_ends_in_an_error_that_names_the_operation_or_project(
    call: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch, what: str, fault: str
) -> None:
    method, arguments, kwargs, path = REQUESTS[what]
    # A cancel whose response is lost must not be over by the next attempt, however late that comes.
    name = service.add("x", run_seconds=3600, cancel_seconds=3600 if what == "cancel" else 0.1)
    # A minute: no response is in time, even on a slow machine.
    let_meet(service, fault, monkeypatch, path=path, times=None, delay=60)
    before = len(service.operations)
    acts = fault in ("reset_after", "delay", "truncated", "empty", "not_an_object")

    if what in ("cancel, then read", "read, then cancel"):
        [result] = call(method, *arguments(name), **kwargs)
        assert result.outcome.value in (("ERROR", "STILL_CANCELLING") if not acts else ("ERROR", "CANCELLED"))
        assert result.outcome.value != "CANCELLED" or service.state(name) == "CANCELLED"
        return
    # The next request finds what the lost requests have done.
    done_before = (errors.FailedPreconditionError, errors.OperationNotFoundError)
    with pytest.raises((errors.TransientError, *(done_before if acts else ()))) as caught:
        call(method, *arguments(name), **kwargs)

    assert ("projects/earth-demo" in str(caught.value)) or name in str(caught.value)
    assert len(service.operations) <= before + (1 if what.startswith("export") else 0)
    if what != "wait":  # A wait polls again until its timeout.
        # aiohttp itself repeats, once, a request that a kept connection has lost.
        assert len(service.journal) <= retries.BACKOFF.attempts * (2 if fault.startswith("reset") else 1)


@pytest.mark.parametrize("what", ["get", "list", "export", "wait", "cancel, then read"])
def test_a_response_with_wrong_types_is_no_operation(call: Callable[..., Any], service: Service, what: str) -> None:
    method, arguments, kwargs, path = REQUESTS[what]
    name = service.add("x", run_seconds=3600)
    service.fail("wrong_types", path=path, times=None)

    if what == "list":
        assert call(method, *arguments(name), **kwargs) == []
    elif "," in what:
        assert call(method, *arguments(name), **kwargs)[0].outcome.value == "ERROR"
    else:
        with pytest.raises(errors.EarthEngineError, match="is not the name of an Earth Engine operation"):
            call(method, *arguments(name), **kwargs)


@pytest.mark.parametrize("fault", ["repeated_page", "duplicated", "dropped"])
@pytest.mark.parametrize("times", [1, None])
def test_an_inconsistent_list_neither_loses_nor_repeats_an_operation(
    call: Callable[..., Any], service: Service, fault: str, times: int | None
) -> None:
    names = [service.add("x", run_seconds=3600) for _ in range(30)]
    service.fail(fault, path="*/operations", times=times)

    results = call("cancel_operations", names, **QUICK)

    assert [result.outcome.value for result in results] == ["CANCELLED"] * 30
    assert all(len(service.requests("POST", f"{name}:cancel")) == 1 for name in names)


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_a_wait_works_with_a_clock_skew_of_a_day(call: Callable[..., Any], service: Service, skew: float) -> None:
    service.clock.advance(skew)
    name = service.add("x", run_seconds=0.3)

    operation = call("wait_for_operation", name, **QUICK)

    assert operation.succeeded
    assert operation.duration_seconds == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_staleness_does_not_depend_on_a_workers_clock(call: Callable[..., Any], service: Service, skew: float) -> None:
    service.clock.advance(skew)
    old = service.add("x", run_seconds=86400)
    service.clock.advance(7200)
    service.add("y", run_seconds=86400)

    stale = call("list_stale_operations", StaleCriteria(older_than=timedelta(hours=1)))

    assert [str(one.operation.name) for one in stale] == [old]


def error_of(call: Callable[..., Any], what: str, name: str) -> errors.EarthEngineError:
    """Return the error of a request: the one that the call raises, or the one in the result of the cancel."""
    method, arguments, kwargs, _ = REQUESTS[what]
    try:
        [result] = call(method, *arguments(name), **kwargs)
    except errors.EarthEngineError as error:
        return error
    assert result.outcome.value == "ERROR"
    error: errors.EarthEngineError = result.error
    return error


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize(
    ("scheme", "kind", "says"),
    [
        ("http", errors.TransientError, "No answer from Earth Engine to "),
        ("https", errors.EarthEngineError, "TLS failed"),
    ],
    ids=["nobody listens", "no TLS"],
)
def test_a_connection_failure_is_an_error_that_names_the_failure(
    *,
    call: Callable[..., Any],
    service: Service,
    earth_engine_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    scheme: str,
    kind: type[errors.EarthEngineError],
    says: str,
) -> None:
    host = earth_engine_emulator.url.replace("http:", f"{scheme}:")
    if scheme == "http":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            host = f"http://127.0.0.1:{free.getsockname()[1]}"
    connection = earth_engine_emulator.airflow_connection("earth-demo").replace(earth_engine_emulator.url, host)
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", connection)

    error = error_of(call, what, "projects/earth-demo/operations/X")

    assert isinstance(error, kind)
    assert says in str(error)
    assert "projects/earth-demo" in str(error)
    assert not service.journal


@pytest.mark.parametrize("what", REQUESTS)
def test_a_retry_after_header_of_an_hour_is_an_error(call: Callable[..., Any], service: Service, what: str) -> None:
    name = service.add("x", run_seconds=3600)
    service.fail("too_many_requests", path=REQUESTS[what][3], times=None, headers={"Retry-After": "3600"})

    error = error_of(call, what, name)

    assert isinstance(error, errors.TransientError)
    assert "Quota exceeded" in str(error)
    refused = [entry for entry in service.journal if entry["fault"]]
    # A wait polls again; an operation that cannot be read is cancelled without a read.
    assert len(refused) == {"wait": len(refused), "cancel, then read": 2}.get(what, 1)


@pytest.mark.parametrize("state", ["SOMETHING_NEW", "", None])
def test_a_wait_continues_through_an_unknown_state(
    call: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    name = service.add("x", run_seconds=0.4)
    operation = service.operations[name]
    known = operation.state
    monkeypatch.setattr(operation, "state", lambda now: known(now) if operation.done(now) else state, raising=True)

    assert call("wait_for_operation", name, **QUICK).succeeded


def test_a_retry_after_header_beyond_the_timeout_stops_no_cancel(call: Callable[..., Any], service: Service) -> None:
    names = [service.add("x", run_seconds=3600) for _ in range(4)]
    service.fail("too_many_requests", times=None, method="GET", path=names[0], headers={"Retry-After": "300"})

    results = call("cancel_operations", names, poll_interval=0.2, timeout=4.0)

    assert all(service.operations[name].cancel_requested is not None for name in names)
    assert [result.outcome.value for result in results[1:]] == ["CANCELLED"] * 3
    assert results[0].outcome.value == "STILL_CANCELLING"
