"""`make versions` measures a part again, and keeps the other rows of its page."""

from __future__ import annotations

import runpy
from pathlib import Path

MEASURE = runpy.run_path(str(Path(__file__).parents[2] / "evidence" / "versions" / "measure.py"))


def test_the_rows_measured_before_are_read_without_the_table_below_them(tmp_path: Path) -> None:
    page = tmp_path / "versions.md"
    counts = ["3404", "6", "0", "1.7.50", "2026-11-29"]
    rows = {(airflow, "3.13", "newest"): [airflow, "3.13", "newest", *counts] for airflow in ("3.2.2", "3.3.2")}

    page.write_text(MEASURE["page_of"](rows), encoding="utf-8")

    assert "earthengine-api 1.7.50 |" in page.read_text(encoding="utf-8").partition("\n## ")[2]
    assert MEASURE["rows_of"](page) == rows
