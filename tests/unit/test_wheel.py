"""What the wheel leaves out, neither users nor the tests that `make dist` runs against it may need."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_needs_what_the_wheel_leaves_out() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    left_out = re.findall(r'^  "airflow_ee_provider/(\w+)\.py",$', pyproject, re.MULTILINE)
    package = [path for path in (ROOT / "airflow_ee_provider").rglob("*.py") if path.stem not in left_out]
    tests = [*(ROOT / "tests" / "integration").rglob("*.py"), *(ROOT / "tests" / "support").glob("*.py")]

    needing = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in (*package, *tests)
        for module in left_out
        if f"airflow_ee_provider.{module}" in path.read_text(encoding="utf-8")
    ]

    assert left_out == ["demo", "standalone", "airflow_api"]
    assert not needing
