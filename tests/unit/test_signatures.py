"""Signatures, as editors, ``help()`` and Airflow read them, list all parameters and agree with each other."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

import pytest

from airflow_ee_provider.client import earth_engine
from airflow_ee_provider.decorators.earth_engine import earth_engine_task
from airflow_ee_provider.earth_engine.protocol import waiting
from airflow_ee_provider.exports.parameters import ExportParameters
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import (
    EarthEngineCancelOperationsOperator,
    EarthEngineCancelStaleOperationsOperator,
    EarthEngineExportOperator,
    EarthEngineImportOperator,
)
from airflow_ee_provider.sensors.earth_engine import EarthEngineOperationsSensor

#: The callables that start exports, and the shared parameters that they do not have.
STARTING: dict[str, tuple[Any, set[str]]] = {
    "export": (EarthEngineExportOperator.__init__, {"ignore_refused_starts", "batch_starts"}),
    "import": (
        EarthEngineImportOperator.__init__,
        {"workload_tag", "priority", "ignore_refused_starts", "batch_starts"},
    ),
    "decorator": (earth_engine_task, set()),
    "block": (earth_engine, {"deferrable"}),
}


def named(function: Any) -> dict[str, Parameter]:
    return {name: one for name, one in signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("what", STARTING)
def test_a_signature_lists_every_shared_parameter_with_its_default(what: str) -> None:
    function, without = STARTING[what]
    shared = {name: one for name, one in named(ExportParameters.__init__).items() if name not in without}
    there = named(function)

    assert set(shared) <= set(there)
    assert not without & set(there)
    own_default = {"wait_for_completion"} if what == "block" else set()
    assert {name: one.default for name, one in shared.items() if name not in own_default} == {
        name: there[name].default for name in shared if name not in own_default
    }


def test_import_operator_refuses_parameters_of_exports() -> None:
    with pytest.raises(TypeError, match="EarthEngineImportOperator has no parameter priority"):
        EarthEngineImportOperator(task_id="t", kind="table", manifest={}, priority=5)


@pytest.mark.parametrize(
    ("cls", "how"),
    [
        (EarthEngineExportOperator, {"kind": "image", "body": {}}),
        (EarthEngineImportOperator, {"kind": "image", "manifest": {}}),
        (EarthEngineOperationsSensor, {"operation_names": "x"}),
        (EarthEngineCancelOperationsOperator, {}),
        (EarthEngineCancelStaleOperationsOperator, {"description": "x"}),
    ],
)
def test_a_poll_interval_below_a_second_is_refused(
    cls: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SHORTEST_POLL_INTERVAL", 1.0)

    with pytest.raises(ValueError, match="poll_interval is 0"):
        cls(task_id="t", poll_interval=0, **how)


def test_notifier_and_sensor_refuse_intervals_below_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SHORTEST_POLL_INTERVAL", 1.0)

    with pytest.raises(ValueError, match=r"poll_interval is 0\.5"):
        EarthEngineCancelOperationsNotifier(poll_interval=0.5)
    with pytest.raises(ValueError, match=r"poke_interval is 0\.5"):
        EarthEngineOperationsSensor(task_id="t", operation_names="x", poke_interval=0.5)
