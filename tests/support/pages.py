"""The code blocks of the README and the documents."""

from __future__ import annotations

import re

from examples_in_docs import MARKED, PAGES, ROOT

__all__ = ["BLOCKS", "DAGS", "FRAGMENTS", "PAGES", "ROOT", "TESTS"]


def _blocks(text: str) -> list[str]:
    """Return a page's own code blocks; those of ``example_dags`` are tested there."""
    return re.findall(r"```python\n(.*?)```", MARKED.sub("", text), re.DOTALL)


BLOCKS = {
    f"{page.relative_to(ROOT)}, block {number}": block
    for page in PAGES
    for number, block in enumerate(_blocks(page.read_text(encoding="utf-8")), 1)
    if page.name != "libraries.md"  # Its block calls a function that the reader defines.
}
TESTS = {name: block for name, block in BLOCKS.items() if "def test_" in block}

#: By the id of the DAG.
DAGS = {match[1]: block for block in BLOCKS.values() if (match := re.search(r'with DAG\("(\w+)"', block))}

#: Blocks with a few lines of a DAG, without the imports and the DAG around them.
FRAGMENTS = {
    name: block for name, block in BLOCKS.items() if block not in TESTS.values() and block not in DAGS.values()
}
