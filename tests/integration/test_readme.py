"""The README's code runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DAG, TEST = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_dag_is_one(tmp_path: Path) -> None:
    pytest.importorskip("airflow.sdk", reason="the README writes for Airflow 3")
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "ndvi.py").write_text(DAG, encoding="utf-8")

    bag = DagBag(tmp_path)

    assert not bag.import_errors
    assert bag.dags["ndvi"].task_ids == ["export"]


def test_the_test_passes(
    dags: dict[str, Any], earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    my_dags = ModuleType("my_dags")
    my_dags.dag = dags["wait_in_worker"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_dags", my_dags)
    namespace: dict[str, Any] = {}

    exec(TEST, namespace)  # noqa: S102
    namespace["test_a_failed_export_fails_the_run"](earth_engine_emulator)
