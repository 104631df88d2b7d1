"""Fills the code blocks of README and docs that come from example_dags: ``python tests/support/examples_in_docs.py``.

Above a block stands ``<!-- example_dags/FILE.py -->`` for the whole file, ``<!-- example_dags/FILE.py#top -->`` for the
lines above its first DAG, or ``<!-- example_dags/FILE.py#DAG_ID -->`` for one DAG and the comment above it.
"""

from __future__ import annotations

import ast
import re
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: A marked block: the comment with the file and the part, and the code.
MARKED = re.compile(r"(<!-- (example_dags/\w+\.py)(?:#(\w+))? -->\n```python\n)(.*?)(?=```)", re.DOTALL)


def filled(page: str) -> str:
    """Return a page's text with the code of the examples in its marked blocks."""
    return MARKED.sub(lambda block: block[1] + example(ROOT / block[2], block[3]), page)


def example(path: Path, part: str | None) -> str:
    """Return an example's code, or a part of it, without the file's docstring and linters' comments.

    :raises LookupError: if the file has no such DAG.
    """
    source = re.sub(r"  # noqa: .*", "", path.read_text(encoding="utf-8"))
    source = re.sub(r'\A"""(.*?)"""\n\nfrom __future__ import annotations\n\n', "", source, flags=re.DOTALL)
    if part is None:
        return source
    lines = source.splitlines()
    for dag in (node for node in ast.parse(source).body if isinstance(node, ast.With)):
        above = list(takewhile(lambda line: line.startswith("#"), reversed(lines[: dag.lineno - 1])))
        first = dag.lineno - 1 - len(above)
        if part == "top":
            return "\n".join(lines[:first]).strip() + "\n"
        if part in _texts(dag.items[0].context_expr):
            return "\n".join(lines[first : dag.end_lineno]) + "\n"
    raise LookupError(f"{path} has no DAG {part!r}.")


def _texts(call: ast.expr) -> list[object]:
    return [arg.value for arg in getattr(call, "args", ()) if isinstance(arg, ast.Constant)]


if __name__ == "__main__":
    for one in PAGES:
        before = one.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            one.write_text(after, encoding="utf-8")
            print(f"Wrote {one.relative_to(ROOT)}.")  # noqa: T201
