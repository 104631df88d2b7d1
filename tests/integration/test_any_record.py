"""For each reader of records, an XCom that is not a valid record affects no other record."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from instances import TaskInstance
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, database_of_its_own
from airflow_ee_provider.base.parameters import CONNECTION_FIELDS
from airflow_ee_provider.base.stored_values import xcom_table
from airflow_ee_provider.collector.thread import make_collector
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelOperationsOperator
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor
from airflow_ee_provider.tracking import run as run_records
from airflow_ee_provider.tracking.overview import read_overview
from airflow_ee_provider.tracking.record import OPERATIONS_KEY, Record, part_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator
    from airflow_ee_provider.emulator.service import Service

#: The name of an operation that Earth Engine does not know.
NAME = "projects/earth-demo/operations/GONE"
ACCOUNT = {"earth_engine_conn_id": "earth_engine_default", "project_id": None, "impersonation_chain": None}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just(NAME),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def with_field(field: str, value: Any) -> dict[str, Any]:
    return {**Record((NAME,), ACCOUNT).as_json(), field: value}


RECORDS = (
    JSON
    | st.builds(with_field, st.sampled_from(sorted(Record((NAME,)).as_json())), JSON)
    | st.builds(
        lambda field, value: with_field("account", {**ACCOUNT, field: value}), st.sampled_from(CONNECTION_FIELDS), JSON
    )
)


def of_any_record(test: Any) -> Any:
    """Run a test with all kinds of records, against the same emulator each time."""
    for odd in (
        "\ud800",
        {"__classname__": "os.system", "__version__": 1, "__data__": 1},
        [[NAME]],
        with_field("v", 9),
    ):
        test = example(value=odd)(test)
    chosen = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    return chosen(given(value=RECORDS)(test))


@pytest.fixture
def service(earth_engine_emulator: Emulator) -> Service:
    earth_engine_emulator.service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    return earth_engine_emulator.service


class Dag:
    task_ids = ("odd", "good")

    def get_task(self, task_id: str) -> Any:
        return SimpleNamespace(task_id=task_id, project_id=None)


def record_in_run(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> Any:
    """Give a run two records, one odd and one valid, and return the context of one of its tasks."""
    found = {"odd": value, "good": Record((name,)).as_json()}
    monkeypatch.setattr(run_records, "xcoms_of_run", lambda key, *_: found.items() if key == OPERATIONS_KEY else ())
    return {"ti": TaskInstance(), "dag": Dag(), "reason": "failed"}


@pytest.mark.parametrize("way", ["notify", "async_notify"])
@of_any_record
def test_a_notifier_cancels_the_operation_of_the_valid_record(
    service: Service, monkeypatch: pytest.MonkeyPatch, way: str, value: Any
) -> None:
    name = service.add("x")
    context = record_in_run(monkeypatch, name, value)
    notifier = EarthEngineCancelOperationsNotifier(scope="run", poll_interval=0.1, cancel_timeout=5)

    if way == "notify":
        notifier.notify(context)
    else:
        asyncio.run(notifier.async_notify(context))

    assert service.state(name) == "CANCELLED"


@of_any_record
def test_a_teardown_cancels_the_operation_of_the_valid_record(
    service: Service, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    name = service.add("x")
    context = record_in_run(monkeypatch, name, value)
    operator = EarthEngineCancelOperationsOperator(task_id="a", scope="run", poll_interval=0.1, cancel_timeout=5)
    operator.pre_execute(context)

    with suppress(AirflowException):  # About the operations that it could not read or cancel.
        operator.execute(context)

    assert service.state(name) == "CANCELLED"


@of_any_record
def test_a_killed_task_cancels_the_operation_of_its_last_record(service: Service, value: Any) -> None:
    name = service.add("x")
    last = replace(Record((name,), ACCOUNT), parts_before=1)
    ti = TaskInstance(xcoms={part_key(1): value, OPERATIONS_KEY: last.as_json()})
    sensor = EarthEngineOperationsSensor(task_id="a", operation_names=[name], cancel_on_kill=True)
    sensor.pre_execute({"ti": ti})  # type: ignore[typeddict-item]

    sensor.on_kill()

    assert service.state(name) == "CANCELLED"


@pytest.fixture
def write_odd(service: Service, run_dag: Callable[..., Ran]) -> Callable[[Any], None]:
    """Return a function that overwrites the record of one of two runs in Airflow's database; neither run is active."""
    from airflow.utils.session import create_session

    table = xcom_table()
    with create_session() as session:
        session.execute(table.delete())
    run_dag("held_owner", service.add("odd"))
    with create_session() as session:
        [odd] = session.execute(table.select().where(table.c.key == OPERATIONS_KEY)).mappings()
    run_dag("held_owner", service.add("good"))
    set_states("held_owner", "failed", "failed")

    def write(value: Any) -> None:
        stored = value if AIRFLOW_3 else json.dumps(value).encode()
        with create_session() as session:
            at = (column == odd[column.name] for column in table.primary_key)
            session.execute(table.update().where(*at).values(value=stored))

    return write


@of_any_record
def test_the_page_and_the_command_line_list_the_operation_of_the_valid_record(
    write_odd: Callable[[Any], None], value: Any
) -> None:
    write_odd(value)

    overview = read_overview(["earth_engine_default"])

    assert not overview.errors
    [good] = [one for one in overview.operations if one.held.operation.description == "good"]
    assert [holder.task_id for holder in good.held.holders] == ["task"]


@of_any_record
def test_the_collector_cancels_the_operation_of_the_valid_record(
    service: Service, write_odd: Callable[[Any], None], value: Any
) -> None:
    write_odd(value)
    collector = make_collector(database_of_its_own(), 0.0)

    collector.look()

    [state] = [service.state(name) for name, one in service.operations.items() if one.description == "good"]
    assert state == "CANCELLED"
