"""The files and headings that the documents name exist; and the documents and the code use no banned word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from examples_in_docs import MARKED, filled
from words_in_code import words_in

from airflow_ee_provider.hooks.connection_form import connection_type_info

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

#: Pages that programs write.
GENERATED = [page for page in PAGES if page.parent.name in ("reference", "results")]
WRITTEN = [page for page in PAGES if page not in GENERATED]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


#: The word list of CONTRIBUTING.md.
BANNED = re.compile(
    r"\b(bec[oa]mes? of|(goes|going|go|went) on\b|whatever|whoever|nobody|everybody|holds?|held|holders?|lent|left"
    r"|(says?|said) so|(is|are|was|were) told|tells?|looks? at|wants|wanted|any ?more|can pass|by (itself|themselves)"
    r"|anew|janitor|(is|are|was|were) (waited|looked) for|one's own)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_and_tests_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not link.startswith("http")]
    tests = re.findall(r"`(test_\w+\.py)`", text)

    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [name for name in tests if not list((ROOT / "tests").rglob(name))] == []


@pytest.mark.parametrize("page", [*WRITTEN, *GENERATED], ids=_name)
def test_headings_that_a_page_links_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!http)([^)#\s]*)#([^)\s]+)\)", text)

    assert [(to, part) for to, part in links if part not in _anchors(page.parent / to if to else page)] == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the repository and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*WRITTEN, *GENERATED], ids=_name)
def test_a_page_is_short_and_uses_no_banned_word(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    words = re.sub(r"## Words.*?(?=^## |\Z)", "", text, flags=re.DOTALL | re.MULTILINE)
    words = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`|\]\([^)]*\)", "", words, flags=re.DOTALL)

    assert len(text.split()) <= 1500 or page.name == "lifecycle.md"
    assert [found[0] for found in BANNED.finditer(words)] == []


PACKAGE = ROOT / "airflow_ee_provider"
CODE = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("name", sorted(CODE))
def test_docstrings_comments_and_messages_use_no_banned_word(name: str) -> None:
    assert [(line, found[0]) for line, text in words_in(CODE[name]) for found in BANNED.finditer(text)] == []


def test_the_documents_are_short() -> None:
    pages = [page for page in WRITTEN if page.parent != ROOT or page.name == "README.md"]

    assert sum(len(page.read_text(encoding="utf-8").split()) for page in pages) <= 13_000


def test_architecture_page_has_every_package_and_names_only_existing_files() -> None:
    package = ROOT / "airflow_ee_provider"
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    of_package, of_earth_engine = re.findall(r"\n\|[^\n]+\n\|---\|---\|\n((?:\|[^\n]+\n)+)", page)[:2]
    places = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if not path.relative_to(ROOT).parts[0].startswith(".")
    }

    assert _rows(of_package) == _parts(package)
    assert _rows(of_earth_engine) == _parts(package / "earth_engine")
    for named in re.findall(r"`((?:[\w]+/)*\w+\.py)`", page):
        assert any(f"/{place}".endswith(f"/{named}") for place in places), named


def _rows(table: str) -> set[str]:
    """Return the names in the first column of a table."""
    return {name.rstrip("/") for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def _parts(package: Path) -> set[str]:
    """Return the packages and modules in a package."""
    parts = {path.name for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    return parts - {"__init__.py"}


def test_messages_on_the_troubleshooting_page_exist_in_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        words for line in re.findall(r"^(`.+)\n: ", page, re.MULTILINE) for words in re.findall(r"`([^`]+)`", line)
    ]
    code = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "airflow_ee_provider").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # A message may span several lines.

    assert len(quoted) > 15
    assert [words for words in quoted if words not in code] == []


def test_the_site_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")

    assert {page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in PAGES if page.parent != ROOT} == {
        "index",
        *re.findall(r"^([\w/-]+)$", index, re.MULTILINE),
    }


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_example_code_on_a_page_matches_its_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert text == filled(text), "Run `python tests/support/examples_in_docs.py`."


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_code_is_shown_in_the_repository_as_well(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert "literalinclude" not in text
    assert len(MARKED.findall(text)) == text.count("<!-- example_dags/")


def test_connections_on_the_page_have_only_fields_of_the_form() -> None:
    page = (ROOT / "docs" / "connection.md").read_text(encoding="utf-8")
    shown = [json.loads(one) for one in re.findall(r"^\{.*\}$", page, re.MULTILINE)]

    assert len(shown) >= 6
    assert {name for one in shown for name in one["extra"]} <= set(connection_type_info()["conn-fields"])
