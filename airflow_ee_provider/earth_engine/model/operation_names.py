"""Names of operations and projects: parsed once, and safe to be put into a URL from then on."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_ee_provider.earth_engine.model.errors import InvalidOperationNameError

# The project may be legacy domain-scoped ("example.com:project"). What is not listed here never gets into a URL.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*[a-z0-9]:)?[A-Za-z0-9][A-Za-z0-9_-]*"
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_NAME = re.compile(rf"projects/(?P<project>{_PROJECT})/operations/(?P<id>{_SEGMENT}(?:/{_SEGMENT})*)")
_BARE_ID = re.compile(_SEGMENT)
_PROJECT_ID = re.compile(_PROJECT)


def check_project(project: str) -> str:
    """Return ``project`` if it can be a Cloud project's id or number.

    :raises InvalidOperationNameError: if it cannot, so that it never becomes part of a URL.
    """
    if isinstance(project, str) and _PROJECT_ID.fullmatch(project):
        return project
    raise InvalidOperationNameError(f"{project!r} is not a Cloud project id.", remedy="Give an id such as my-project.")


@dataclass(frozen=True, order=True, slots=True)
class OperationName:
    """The name of an operation, ``projects/{project}/operations/{id}``; safe to be put in a URL's path."""

    project: str
    id: str

    @classmethod
    def parse(cls, text: str | OperationName, project: str | None = None) -> OperationName:
        """Parse a full name, or a bare id together with a project.

        :param text: ``projects/my-project/operations/ABC`` or ``ABC``.
        :param project: the project of a bare id; a full name keeps its own.
        :raises InvalidOperationNameError: for anything else; the error shows the input.
        """
        if isinstance(text, cls):
            return text
        if isinstance(text, str):
            if match := _NAME.fullmatch(text):
                return cls(match["project"], match["id"])
            if _BARE_ID.fullmatch(text):
                if project:
                    return cls(check_project(project), text)
                raise InvalidOperationNameError(
                    f"{text!r} is an operation's id without its project.",
                    remedy="Give the full name, projects/PROJECT/operations/ID, or set project_id.",
                )
        raise InvalidOperationNameError(
            f"{text!r} is not the name of an Earth Engine operation.",
            remedy="Expected projects/PROJECT/operations/ID, or an ID together with a project.",
        )

    @classmethod
    def parse_all(cls, texts: Any, project: str | None = None) -> list[OperationName]:
        """Parse one name, several, or none; ``None`` and empty texts are ignored, repeated names kept once.

        A rendered template or an XCom gives any nesting of texts and lists, or a list that Jinja turned into a text:
        JSON, Python's own, or words with commas or blanks between. An operation as plain JSON stands for its name.
        ``None``, and what templates make of it (``null``, ``nan``, ``undefined``), stands for an upstream task that
        started nothing.

        :raises InvalidOperationNameError: if any of them is not a name.
        """
        return list(dict.fromkeys(cls.parse(text, project) for text in _flatten(texts)))

    def __str__(self) -> str:
        return f"projects/{self.project}/operations/{self.id}"


#: What templates make of "nothing", in any case: Jinja, JSON, pandas, JavaScript.
_NOTHING = frozenset({"", "none", "null", "nan", "undefined"})

#: Longer texts are not parsed as lists: they are no names, and could exhaust the parser.
_LONGEST_LIST = 1_000_000


def _flatten(texts: Any) -> Iterable[Any]:
    if isinstance(texts, str):
        texts = _parsed(texts.strip())
    if texts is None or (isinstance(texts, float) and math.isnan(texts)):
        return
    if isinstance(texts, Mapping):  # An operation as plain JSON, what a task has recorded, or `task.status()`.
        texts = next((texts[key] for key in ("operation_names", "name", "id") if key in texts), texts)
    # A text is itself a sequence. Other types go to the parser, which refuses them.
    if isinstance(texts, (str, Mapping, OperationName)) or not isinstance(texts, Iterable):
        yield texts
        return
    for text in texts:
        yield from _flatten(text)


def _parsed(text: str) -> Any:
    """Read what a template may have made of a list, a tuple, an object: JSON, Python's own words, or words."""
    if text.lower() in _NOTHING:
        return None
    if text[0] in "[({" and len(text) <= _LONGEST_LIST:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                return parse(text)
        return text
    words = re.split(r"[\s,]+", text)
    return [word for word in words if word] if len(words) > 1 else text
