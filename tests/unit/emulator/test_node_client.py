"""The JavaScript client, which the Code Editor also uses, on Node: a second check of the emulator.

``make clients`` installs the client and runs this test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_ee_provider.emulator import Emulator

ROOT = Path(__file__).parents[3]
MODULES = Path(os.environ.get("NODE_PATH", ROOT / ".demo" / "node" / "node_modules"))


@pytest.mark.skipif(
    not shutil.which("node") or not (MODULES / "@google" / "earthengine").is_dir(), reason="`make clients` installs it"
)
def test_the_javascript_client_starts_lists_gets_and_cancels(earth_engine_emulator: Emulator) -> None:
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0)
    service.answer("projects/*/value:compute", {"result": 42})
    command = ["node", str(ROOT / "tests" / "node" / "client.js"), earth_engine_emulator.url, "earth-demo"]

    ran = subprocess.run(  # noqa: S603 (the test's own script)
        command, capture_output=True, text=True, check=False, env={**os.environ, "NODE_PATH": str(MODULES)}
    )

    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    one, two, three = seen["names"]
    assert list(service.operations) == [one, two, three]
    assert {service.state(name) for name in service.operations} == {"CANCELLED"}
    assert (seen["got"], seen["gotById"], seen["status"]) == ("one", three, "RUNNING")
    assert seen["gotTogether"] == [one, two]
    assert "error" not in seen["cancelled"]
    assert "error" not in seen["cancelledTogether"]
    assert "already completed" in seen["cancelledOneUnknown"]["error"]
    assert "UNKNOWN' not found" in seen["cancelledOneUnknown"]["error"]
    assert "The bucket of" in seen["refused"]["error"]
    assert seen["value"]["answer"] == 42
    by_id = f"projects/earthengine-legacy/operations/{three.rpartition('/')[2]}"
    assert service.requests("GET", by_id), "the client looks for a bare id there"
