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
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TESTS = [block for block in BLOCKS if "def test_" in block]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block not in TESTS])
def test_a_dag_is_one(block: str, tmp_path: Path) -> None:
    pytest.importorskip("airflow.sdk", reason="the README writes for Airflow 3")
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "of_the_readme.py").write_text(block, encoding="utf-8")

    bag = DagBag(tmp_path)

    assert not bag.import_errors
    assert bag.dags


@pytest.mark.parametrize("block", TESTS)
def test_a_test_passes(
    block: str, dags: dict[str, Any], earth_engine_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    my_dags = ModuleType("my_dags")
    my_dags.dag = dags["wait_in_worker"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_dags", my_dags)
    namespace: dict[str, Any] = {}

    exec(block, namespace)  # noqa: S102
    for name, test in namespace.items():
        if name.startswith("test_"):
            test(earth_engine_emulator)
