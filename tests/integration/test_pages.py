"""The code in the README and in the documents runs."""

from __future__ import annotations

import importlib.util
import sys
from textwrap import indent
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from pages import DAGS, FRAGMENTS, TESTS

from airflow_ee_provider.earth_engine.protocol import waiting

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_ee_provider.emulator import Emulator

PRELUDE = """
from datetime import timedelta
from airflow.providers.common.compat.sdk import DAG
try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:  # Airflow 2 without that provider.
    from airflow.operators.empty import EmptyOperator
from airflow_ee_provider.notifications.earth_engine import *
from airflow_ee_provider.operators.earth_engine import *
from airflow_ee_provider.sensors.earth_engine import *

with DAG("fragment", schedule=None):
"""


@pytest.mark.parametrize("fragment", FRAGMENTS.values(), ids=FRAGMENTS)
def test_a_fragment_is_valid_in_a_dag(fragment: str, tmp_path: Path) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    (tmp_path / "fragment.py").write_text(PRELUDE + indent(fragment, "    "), encoding="utf-8")

    bag = DagBag(tmp_path)

    assert not bag.import_errors
    assert bag.dags["fragment"].tasks


@pytest.mark.parametrize("dag_id", DAGS)
def test_a_dag_runs_and_its_exports_succeed(
    dags: dict[str, Any], dag_id: str, earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow.sdk", reason="the pages are written for Airflow 3")
    if "import geemap" in DAGS[dag_id] and importlib.util.find_spec("geemap") is None:
        pytest.skip("`make libraries` runs it, where geemap is")
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=0.5)
    if "getInfo" in DAGS[dag_id]:
        service.answer("projects/*/value:compute", {"result": 2})
    monkeypatch.setattr(
        "airflow_ee_provider.triggers.base.SETTLE", 0.0
    )  # `dag.test()` has no scheduler for which a trigger has to wait.
    monkeypatch.setattr(waiting, "FIRST_INTERVAL", 0.2)

    run = dags[dag_id].test()

    assert run.state == "success"
    assert service.operations
    assert {service.state(name) for name in service.operations} == {"SUCCEEDED"}
    assert not service.requests("POST", "*:cancel")


@pytest.mark.parametrize("block", TESTS.values(), ids=TESTS)
def test_a_documented_test_passes(
    block: str, dags: dict[str, Any], earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow.sdk", reason="the pages are written for Airflow 3")
    my_dags = ModuleType("my_dags")
    my_dags.dag = dags["scenes"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_dags", my_dags)
    namespace: dict[str, Any] = {}

    exec(block, namespace)  # noqa: S102
    for name, test in namespace.items():
        if name.startswith("test_"):
            test(earth_engine_emulator)
