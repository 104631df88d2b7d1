"""The package, which the wheel has, needs nothing of `dev/`, which it leaves out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORT = re.compile(r"^\s*(?:from|import) dev\b", re.MULTILINE)


def test_nothing_needs_what_the_wheel_leaves_out() -> None:
    places = ("airflow_ee_provider", "example_dags", "tests/integration", "tests/support")
    files = [path for place in places for path in (ROOT / place).rglob("*.py")]

    assert len(files) > 100
    assert [str(path.relative_to(ROOT)) for path in files if IMPORT.search(path.read_text(encoding="utf-8"))] == []


def test_every_file_of_the_package_can_be_read_at_once() -> None:
    lengths = {
        path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "airflow_ee_provider").rglob("*.py")
    }

    assert [str(path.relative_to(ROOT)) for path, length in lengths.items() if length > 300] == []
