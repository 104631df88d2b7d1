from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEST = """
import urllib.error, urllib.request

def test_that_swallows_errors(earth_engine_emulator):
    for path in ("v1/projects/p/value:compute", "v1/projects/p/value:compute", "v1/projects/p/assets/x"):
        try:
            urllib.request.urlopen(f"{earth_engine_emulator.url}/{path}")
        except urllib.error.HTTPError:
            pass
"""


def test_unanswered_requests_are_listed_at_the_end_of_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), str(tmp_path)]

    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603 (pytest)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    listed = "3 requests were not answered: GET projects/p/value:compute (2 times), GET projects/p/assets/x."
    assert listed in ran.stdout
