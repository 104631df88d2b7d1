"""``make evidence``: which pages of test results are of this code, and which are older.

A generated page has a stamp for each measurement: the day, a digest of the package, and a digest of the program that
measured. The digests ignore comments and docstrings, which change no result.
"""

from __future__ import annotations

import ast
import re
import sys
from datetime import datetime, timezone
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from dev.changed import ROOT, imports_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "airflow_ee_provider"
#: `python -m airflow_ee_provider`: no result depends on it, except those of programs that import it.
COMMAND_LINE = f"{PACKAGE}/__main__.py"
RESULTS = ROOT / "docs" / "results"
#: Programs that measure: the file to run, and the folders with code that runs in other processes.
PROGRAMS = {
    "matrix": ("evidence/matrix.py", "tests/system/dags"),
    "moments": ("evidence/moments.py", "tests/system/dags"),
    "soak": ("evidence/soak.py", "tests/system/dags"),
    "explore": ("evidence/explore.py",),
    "libraries": ("evidence/libraries/measure.py", "evidence/libraries/dags"),
    "roles": ("evidence/roles/measure.py",),
    "versions": ("evidence/versions/measure.py", "tests/unit", "tests/integration"),
    "asked": ("benchmarks/asked.py", "benchmarks/asked_dags", "benchmarks/company_dags"),
    "company": ("benchmarks/company.py", "benchmarks/company_dags"),
    **{
        name: (f"benchmarks/{name}.py", "benchmarks/dags")
        for name in ("watch", "start", "many", "cancel", "reaction", "page", "size", "plans", "collector", "imports")
    },
}
#: Each program imports this file, and no result depends on it.
THIS = "dev/evidence.py"
STAMP = re.compile(r"(?P<day>\d{4}-\d\d-\d\d), code (?P<package>[0-9a-f]{8})/(?P<name>\w+) (?P<program>[0-9a-f]{8})")


class Stamp(NamedTuple):
    """When, and on which code, something was measured, as a page states it."""

    day: str
    package: str
    name: str
    program: str

    def __str__(self) -> str:
        return f"{self.day}, code {self.package}/{self.name} {self.program}"

    @property
    def changed(self) -> list[str]:
        """What has changed since the measurement; empty if nothing has."""
        now = stamp(self.name)
        parts = {"the package": self.package != now.package, PROGRAMS[self.name][0]: self.program != now.program}
        return [part for part, is_changed in parts.items() if is_changed]


def stamp(name: str) -> Stamp:
    """Return the stamp of a measurement that a program makes now; its text goes into the page."""
    return Stamp(f"{datetime.now(timezone.utc):%Y-%m-%d}", _digest_of_package(), name, _digest_of_program(name))


@cache
def _digest_of_package() -> str:
    return _digest(file for file in _files() if _is_of_package(file))


@cache
def _digest_of_program(name: str) -> str:
    return _digest(_files_of_program(name))


def _files_of_program(name: str) -> set[str]:
    """Return a program's file and all that it imports, except the package."""
    files = {file for file in _files() if not _is_of_package(file) and file != THIS}
    program, *folders = PROGRAMS[name]
    found: set[str] = set()
    todo = {program, *(file for file in files if file.startswith(tuple(f"{folder}/" for folder in folders)))}
    while todo:
        found |= todo
        todo = {further for file in todo for further in imports_of(file, files)} - found
    return found


def _is_of_package(file: str) -> bool:
    return file.startswith(f"{PACKAGE}/") and file != COMMAND_LINE


@cache
def _files() -> tuple[str, ...]:
    """Return all Python files of the project."""
    folders = [PACKAGE, "tests", "evidence", "benchmarks", "dev"]
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found if "node_modules" not in path.parts))


def _digest(files: Iterator[str] | set[str]) -> str:
    found = sha256()
    for file in sorted(files):
        found.update(f"{file}\n{_code((ROOT / file).read_text(encoding='utf-8'))}\n".encode())
    return found.hexdigest()[:8]


def _code(text: str) -> str:
    """Return a file's code without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [one for one in node.body if not _is_text(one)]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def stamps(text: str) -> Iterator[tuple[str, Stamp]]:
    """Yield the stamps of a page, each with the heading above it."""
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        for found in STAMP.finditer(line):
            yield heading, Stamp(*found.groups())


def main() -> int:
    """List the stamps of all pages; return 1 if one is older than the code."""
    old = 0
    for page in sorted(RESULTS.glob("*.md")):
        found = list(stamps(page.read_text(encoding="utf-8")))
        for heading, one in found:
            changed = " and ".join(one.changed)
            old += bool(changed)
            is_of = f"older than {changed}" if changed else "of this code"
            sys.stdout.write(f"{page.name}: {heading}: {one.day}: {is_of}\n")
        if not found:
            old += 1
            sys.stdout.write(f"{page.name}: does not say which code was measured\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
