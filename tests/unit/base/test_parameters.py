"""Which values are refused, and which parameter the error names."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_ee_provider.base import parameters
from airflow_ee_provider.notifications.earth_engine import EarthEngineCancelOperationsNotifier
from airflow_ee_provider.operators.earth_engine import EarthEngineCancelStaleOperationsOperator

#: A value for each criterion of the operator that cancels stale operations.
CRITERIA: dict[str, Any] = {
    "older_than": 3600,
    "description": "ndvi-*",
    "description_regex": "^ndvi",
    "types": ["EXPORT_IMAGE"],
    "max_priority": 50,
    "min_eecu_seconds": 5,
    "states": ["RUNNING"],
    "keep": ["projects/p/operations/A"],
    "limit": 3,
}


def stale(**criteria: Any) -> Any:
    return EarthEngineCancelStaleOperationsOperator(task_id="t", **criteria)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("rendered", ["", " ", "None", "[]", None, [], ()])
def test_criterion_that_renders_to_an_empty_value_is_refused_by_its_name(name: str, rendered: Any) -> None:
    operator = stale(**{"older_than": 60, name: "{{ params.x }}"})
    setattr(operator, name, rendered)  # As Airflow does when it renders.

    with pytest.raises(AirflowFailException, match=f"^{name} rendered to an empty value"):
        operator.pre_execute({})


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("value", ["", []])
def test_empty_criterion_is_refused_when_the_dag_is_parsed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is empty"):
        stale(**{"older_than": 60, name: value})


@pytest.mark.parametrize("rendered", [[""], [None], "[None]", "['']", ",", [[]], "null"])
def test_keep_that_renders_to_no_operation_is_refused(monkeypatch: pytest.MonkeyPatch, rendered: Any) -> None:
    extra = {"project": "p", "is_anonymous": True}
    connection = {"conn_type": "earth_engine", "host": "http://127.0.0.1:1", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EARTH_ENGINE_DEFAULT", json.dumps(connection))
    operator = stale(older_than=60, keep=["{{ params.x }}"])
    operator.keep = rendered
    operator.pre_execute({})

    with pytest.raises(AirflowFailException, match=r"^keep is .* and names no operation"):
        operator.execute({})


def test_criteria_are_optional() -> None:
    stale(older_than=60).pre_execute({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("description", 5),
        ("description", ["*"]),
        ("description_regex", {"a": 1}),
        ("types", 5),
        ("types", [5]),
        ("states", 7),
        ("older_than", 1e15),
        ("older_than", float("nan")),
        ("poll_interval", 1e308),
        ("cancel_timeout", 1e308),
        ("max_priority", "many"),
        ("min_eecu_seconds", timedelta(1)),
        ("limit", 1.5),
    ],
)
def test_invalid_type_or_size_is_an_error_that_names_the_parameter(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        stale(**{"older_than": 60, name: value})


def test_a_notifier_reads_the_text_false_as_false() -> None:
    notifier = EarthEngineCancelOperationsNotifier(wait_for_completion="false", not_found_ok="False")

    assert (notifier.wait_for_completion, notifier.not_found_ok) == (False, False)


def test_text_parameter_may_be_none() -> None:
    assert parameters.Text("description").read(None) is None
