"""``make evidence``: which test results are from the current code."""

from __future__ import annotations

import pytest

from dev import evidence
from dev.evidence import PROGRAMS, ROOT, Stamp, stamp, stamps

FUNCTION = 'def one():\n    """{text}"""\n    return {value}  # {text}\n'


@pytest.mark.parametrize("name", PROGRAMS)
def test_measuring_programs_exist(name: str) -> None:
    assert all((ROOT / place).exists() for place in PROGRAMS[name])


def test_page_from_the_current_code_reports_no_change() -> None:
    page = f"# Title\n\n{stamp('soak')}, Airflow 3.3.2\n\n## Another\n\n| 3.3.2 | {stamp('imports')} |\n"

    found = list(stamps(page))

    assert [(heading, one.name, one.changed) for heading, one in found] == [
        ("Title", "soak", []),
        ("Another", "imports", []),
    ]


@pytest.mark.parametrize(
    ("part", "changed"),
    [({"package": "00000000"}, ["the package"]), ({"program": "00000000"}, ["evidence/soak.py"])],
)
def test_page_from_older_code_names_what_has_changed(part: dict[str, str], changed: list[str]) -> None:
    [(_, found)] = stamps(str(stamp("soak")._replace(**part)))

    assert isinstance(found, Stamp)
    assert found.changed == changed


def test_comments_and_docstrings_do_not_count_as_a_change() -> None:
    before, after = (FUNCTION.format(text=text, value=1) for text in ("before", "after"))

    assert evidence._code(before) == evidence._code(after)
    assert evidence._code(before) != evidence._code(FUNCTION.format(text="before", value=2))


def test_program_includes_its_imports() -> None:
    assert len({evidence._digest_of_program(name) for name in PROGRAMS}) == len(PROGRAMS)
    assert "evidence/soak_page.py" in evidence.imports_of("evidence/soak.py", set(evidence._files()))


def test_only_tests_depend_on_the_command_line() -> None:
    assert [name for name in PROGRAMS if evidence.COMMAND_LINE in evidence._files_of_program(name)] == ["versions"]
