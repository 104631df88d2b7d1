"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_tests_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not link.startswith("http")]
    tests = re.findall(r"`(test_\w+\.py)`", text)

    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [name for name in tests if not list((ROOT / "tests").rglob(name))] == []


def test_the_map_has_every_module_and_nothing_else() -> None:
    package = ROOT / "airflow_ee_provider"
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Every module")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)}
    there = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}

    assert named == there
