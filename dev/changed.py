"""``make quick``: the integration tests that import the changed files most directly."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, deque
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Where an absolute import is looked up: the root, pytest's own paths (`pythonpath` in pyproject.toml), and the folders
#: of programs.
PATHS = (
    "",
    *(f"tests/{folder}/" for folder in ("support", "system", "model")),
    *(f"evidence/{folder}" for folder in ("", "libraries/", "libraries/dags/", "roles/", "versions/")),
    "benchmarks/",
)
#: How many test files run in a minute.
MOST = 6


def imports_of(file: str, files: set[str]) -> set[str]:
    """Return the files that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = [*file.split("/")[: -node.level]] if node.level else []
            module = ".".join([*package, *filter(None, [node.module])])
            found.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    places = [f"{path}{name.replace('.', '/')}" for name in found for path in PATHS]
    return {file for place in places for file in (f"{place}.py", f"{place}/__init__.py")} & files


def distances(test: str, imports: dict[str, set[str]]) -> dict[str, int]:
    """Return how many imports lie between a test and each file that it needs."""
    found, todo = {test: 0}, deque([test])
    while todo:
        for further in imports[file := todo.popleft()] - found.keys():
            found[further] = found[file] + 1
            todo.append(further)
    return found


def nearest(changed: set[str], imports: dict[str, set[str]], most: int = MOST) -> list[str]:
    """Return the integration tests that import a changed file most directly, ordered by the number of changed files."""
    tests = {name: distances(name, imports) for name in imports if name.startswith("tests/integration/test_")}
    found: Counter[str] = Counter()
    for file in changed:
        if needing := {name: steps[file] for name, steps in tests.items() if file in steps}:
            found.update(name for name, steps in needing.items() if steps == min(needing.values()))
    return [name for name, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]]


def _git(*arguments: str) -> set[str]:
    return set(subprocess.check_output(["git", *arguments], cwd=ROOT, text=True).split())  # noqa: S603, S607


if __name__ == "__main__":
    [base] = _git("merge-base", sys.argv[1], "HEAD")
    changed = _git("diff", "--name-only", base) | _git("ls-files", "--others", "--exclude-standard")
    files = {
        name
        for name in _git("ls-files", "--cached", "--others", "--exclude-standard", "*.py")
        if (ROOT / name).exists()
    }
    print(*nearest(changed, {file: imports_of(file, files) for file in files}))  # noqa: T201
