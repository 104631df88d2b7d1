"""Extracts the texts for readers from a source file: docstrings, comments, log lines and errors."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Methods of a logger, and functions of this package whose argument is a log line.
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log", "LogMessage", "warn"}


def words_in(path: Path) -> list[tuple[int, str]]:
    """Return the texts for readers in a file, each with its line number, without quoted code."""
    source = path.read_text(encoding="utf-8")
    found = [*_docstrings(ast.parse(source)), *_messages(ast.parse(source)), *_comments(source)]
    return [(line, re.sub(r"``[^`]*``|`[^`]*`|:param \w+:", "", text)) for line, text in found]


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def _messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _called(node) in LOGS):
            for text in ast.walk(node):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.lineno, text.value


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and "noqa" not in token.string and "type:" not in token.string:
            yield token.start[0], token.string
