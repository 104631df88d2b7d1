"""The official client's own tests of operations, tasks and assets, on the emulator's description of the API.

They ship in its wheel: ``data_test.py`` and ``batch_test.py``, all of them. They send no request: they check that each
method exists, with its name, path and parameters. The client's other tests (images, collections, serializing) are left
out: they concern no request. ``make clients`` installs the packages that they need.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_clients_own_tests_pass_with_our_api_description(tmp_path: Path) -> None:
    for needed in ("absl", "geopandas"):
        pytest.importorskip(needed, reason="`make clients` installs it")
    import ee

    tests = [str(Path(ee.__file__).parent / "tests" / name) for name in ("data_test.py", "batch_test.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "our_description", "--rootdir", str(tmp_path), *tests]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}

    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 (pytest)

    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) > 100
