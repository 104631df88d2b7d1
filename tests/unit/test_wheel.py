"""The package, which is in the wheel, does not import `dev/`, which is not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORT = re.compile(r"^\s*(?:from|import) dev\b", re.MULTILINE)


def test_package_examples_and_tests_do_not_import_dev() -> None:
    places = ("airflow_ee_provider", "example_dags", "tests/integration", "tests/support")
    files = [path for place in places for path in (ROOT / place).rglob("*.py")]

    assert len(files) > 100
    assert [str(path.relative_to(ROOT)) for path in files if IMPORT.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_of_the_package_has_more_than_300_lines() -> None:
    lengths = {
        path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "airflow_ee_provider").rglob("*.py")
    }

    assert [str(path.relative_to(ROOT)) for path, length in lengths.items() if length > 300] == []
