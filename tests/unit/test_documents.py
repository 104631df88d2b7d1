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


def test_the_words_that_help_is_given_for_are_said_somewhere() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        words for line in re.findall(r"^(`.+)\n: ", page, re.MULTILINE) for words in re.findall(r"`([^`]+)`", line)
    ]
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "airflow_ee_provider").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # A sentence may stand in several lines.

    assert len(quoted) > 15
    assert [words for words in quoted if words not in code] == []


def test_the_site_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    assert {page.stem for page in (ROOT / "docs").glob("*.md")} == {
        "index",
        *re.findall(r"^([\w-]+)$", index, re.MULTILINE),
    }
