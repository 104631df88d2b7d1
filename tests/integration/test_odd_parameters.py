"""Any value that JSON or a template gives a parameter is used, or refused in one sentence that names the parameter."""

from __future__ import annotations

import argparse
import copy
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, TaskDeferred
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import Store, TaskInstance
from interface import parameters_of

from airflow_ee_provider.base import parameters
from airflow_ee_provider.cli.definition import duration
from airflow_ee_provider.decorators.earth_engine import _EarthEngineDecoratedOperator
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.model.operation_names import OperationName
from airflow_ee_provider.hooks.earth_engine import EarthEngineHook
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
    EarthEngineImportOperator,
)
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

NAME = "projects/earth-demo/operations/A"
BODY = {"description": "x", "expression": {}, "fileExportOptions": {"cloudStorageDestination": {"bucket": "b"}}}
MANIFEST = {"name": "projects/earth-demo/assets/x", "tilesets": [{"sources": [{"uris": ["gs://b/x.tif"]}]}]}

#: Each class with the parameters that it needs to do something.
CLASSES: dict[Any, dict[str, Any]] = {
    EarthEngineCancelOperationsOperator: {"operation_names": [NAME]},
    EarthEngineCancelStaleOperationsOperator: {"older_than": 60, "description": "x*"},
    EarthEngineExportOperator: {"kind": "image", "body": BODY},
    EarthEngineImportOperator: {"kind": "image", "manifest": MANIFEST},
    EarthEngineOperationsSensor: {"operation_names": [NAME]},
    _EarthEngineDecoratedOperator: {"python_callable": lambda: None, "op_args": (), "op_kwargs": {}},
}

#: Parameters with any value: Airflow passes them to the user's function.
FREE = {"op_args", "op_kwargs"}

VALUES: list[Any] = [
    5,
    -1,
    1e15,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "nan",
    "\ud800",
    "a\0b",
    "[" * 10_000,
    "(" * 10_000,
    "x{99999999999999999999}",
    [],
    ["*"],
    [5],
    [["\ud800"]],
    {},
    {"a": 1},
    {"a": float("nan")},
    {"a": "\ud800"},
    timedelta.max,
    object(),
]

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)

CELLS = [(cls, name) for cls in CLASSES for name in cls.template_fields if name not in FREE]


def made(cls: Any, **how: Any) -> Any:
    return cls(task_id="a", **CLASSES[cls], **how)


def ids(value: Any) -> str:
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize("cls", CLASSES, ids=ids)
@given(data=st.data())
@settings(max_examples=300)
def test_a_rendered_value_is_read_or_refused_by_the_parameters_name(cls: Any, data: Any) -> None:
    operator = made(cls)
    checked = data.draw(st.sampled_from(operator.checked_parameters))
    setattr(operator, checked.name, data.draw(ODD))

    try:
        parameters.check_rendered(operator, operator.checked_parameters)
    except AirflowFailException as error:
        shown = str(error)
        assert shown.startswith(f"{checked.name} is ")
        assert len(shown) < 400


@pytest.mark.parametrize("cls", CLASSES, ids=ids)
def test_every_parameter_is_checked(cls: Any) -> None:
    read_apart = {"operation_names", "keep", "body", "manifest", "dry_run"} | FREE

    assert set(cls.template_fields) - read_apart <= {one.name for one in cls.checked_parameters}


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")  # From a pattern.
@pytest.mark.parametrize(("cls", "name"), CELLS, ids=ids)
def test_a_task_with_any_rendered_value_succeeds_defers_or_raises_an_airflow_exception(
    earth_engine_emulator: Emulator, cls: Any, name: str
) -> None:
    """The exception names the parameter if the value's type is one that no parameter takes."""
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=0, cancel_seconds=0)
    operation = service.add("x")
    for value in VALUES:
        operator = made(cls)
        if "operation_names" in CLASSES[cls]:
            operator.operation_names = [operation]
        setattr(operator, name, copy.copy(value))
        context: Any = {"ti": TaskInstance(), "dag_run": None, "task_state_store": Store()}
        try:
            operator.pre_execute(context)
            operator.execute(context)
        except TaskDeferred:
            pass
        except AirflowException as error:
            shown = str(error)
            assert isinstance(value, (str, float, int, list, type(None))) or name in shown, shown


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, one.name)
        for cls in CLASSES
        for one in cls.checked_parameters
        if one.name in parameters_of(cls) and f":param {one.name}:" in (cls.__doc__ or f":param {one.name}:")
    ],
    ids=ids,
)
@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], object(), "\ud800"], ids=["object", "list", "else", "half"])
def test_an_odd_value_in_a_dag_file_is_refused_when_the_file_is_parsed(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        made(cls, **{name: value}) if name not in CLASSES[cls] else cls(task_id="a", **{**CLASSES[cls], name: value})


@pytest.mark.parametrize("name", [one.name for one in parameters.CONNECTION])
@pytest.mark.parametrize("cls", [EarthEngineHook, EarthEngineCancelOperationsNotifier], ids=ids)
def test_hooks_and_notifiers_refuse_an_odd_account(cls: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        cls(**{name: {"a": 1}})


@pytest.mark.parametrize("value", [1e308, "soon", float("nan"), timedelta.max, -5])
@pytest.mark.parametrize("name", ["poll_interval", "timeout"])
@pytest.mark.parametrize("method", ["wait_for_operations", "wait_for_operation", "cancel_operations"])
@pytest.mark.usefixtures("earth_engine_emulator")
def test_a_hook_refuses_an_odd_duration_by_its_name(method: str, name: str, value: Any) -> None:
    with pytest.raises(EarthEngineError, match=f"^{name} is "):
        getattr(EarthEngineHook(), method)(NAME, **{name: value})


@given(value=ODD)
def test_any_names_are_read_or_refused(value: Any) -> None:
    with suppress(ValueError):
        assert isinstance(OperationName.parse_all(value), list)


@given(text=st.text() | st.from_regex(r"[0-9]{1,400}(\.[0-9]+)?[smhd]?", fullmatch=True))
def test_a_command_takes_a_duration_or_refuses_it(text: str) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert isinstance(duration(text), timedelta)
