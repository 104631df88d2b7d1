"""Which integration tests `make quick` runs for a set of changed files."""

from __future__ import annotations

import pytest

from dev.changed import ROOT, imports_of, nearest

FILES = {
    path.relative_to(ROOT).as_posix()
    for place in ("airflow_ee_provider", "dev", "tests")
    for path in (ROOT / place).rglob("*.py")
}
EXPORT, SENSOR, HOOK = (f"tests/integration/test_{name}.py" for name in ("export", "sensors", "hooks"))
IMPORTS = {
    EXPORT: {"operators.py"},
    SENSOR: {"sensors.py", "hooks.py"},
    HOOK: {"hooks.py"},
    "operators.py": {"sensors.py"},
    "sensors.py": {"hooks.py"},
    "hooks.py": set[str](),
}


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ({"operators.py"}, [EXPORT]),
        ({"sensors.py"}, [SENSOR]),
        ({"hooks.py"}, [HOOK, SENSOR]),
        ({"hooks.py", "sensors.py"}, [SENSOR, HOOK]),
        ({EXPORT}, [EXPORT]),
        ({"README.md", "gone.py"}, []),
    ],
)
def test_nearest_returns_the_tests_that_import_a_changed_file_most_directly(
    changed: set[str], tests: list[str]
) -> None:
    assert nearest(changed, IMPORTS) == tests


def test_nearest_returns_no_more_tests_than_the_limit() -> None:
    assert nearest({"hooks.py", "sensors.py"}, IMPORTS, most=1) == [SENSOR]


@pytest.mark.parametrize(
    ("file", "imported"),
    [
        ("airflow_ee_provider/operators/export.py", "airflow_ee_provider/exports/exporting.py"),
        ("tests/integration/test_export.py", "airflow_ee_provider/operators/earth_engine.py"),
        ("tests/system/conftest.py", "tests/support/statsd_server.py"),
    ],
)
def test_imports_are_followed_to_their_files(file: str, imported: str) -> None:
    assert imported in imports_of(file, FILES)
