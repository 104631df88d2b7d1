"""Names of operations and projects. A parsed name is safe in a URL."""

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

# The project may be legacy domain-scoped ("example.com:project"). Other characters never get into a URL.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*[a-z0-9]:)?[A-Za-z0-9][A-Za-z0-9_-]*"
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_NAME = re.compile(rf"projects/(?P<project>{_PROJECT})/operations/(?P<id>{_SEGMENT}(?:/{_SEGMENT})*)")
_BARE_ID = re.compile(_SEGMENT)
_PROJECT_ID = re.compile(_PROJECT)


def check_project(project: str) -> str:
    """Return ``project`` if it can be a Cloud project's id or number.

    :raises InvalidOperationNameError: If it cannot, so that it never becomes part of a URL.
    """
    if isinstance(project, str) and _PROJECT_ID.fullmatch(project):
        return project
    raise InvalidOperationNameError(f"{project!r} is not a Cloud project id.", remedy="Give an id such as my-project.")


@dataclass(frozen=True, order=True, slots=True)
class OperationName:
    """The name of an operation, ``projects/{project}/operations/{id}``. It is safe in a URL's path."""

    project: str
    id: str

    @classmethod
    def parse(cls, text: str | OperationName, project: str | None = None) -> OperationName:
        """Parse a full name, or a bare id together with a project.

        :param text: ``projects/my-project/operations/ABC`` or ``ABC``.
        :param project: The project of a bare id; a full name contains its own.
        :raises InvalidOperationNameError: For any other text; the error shows it.
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
        """Parse one name, several or none. ``None``, empty texts and repeated names are omitted.

        A rendered template or an XCom can contain nested lists, or a list that Jinja has rendered as text: JSON, a
        Python literal, or words with commas or spaces in between. An operation as plain JSON counts as its name.
        ``None``, and its rendered forms (``null``, ``nan``, ``undefined``), mean that an upstream task has started no
        operation.

        :raises InvalidOperationNameError: If any of them is not a name.
        """
        return list(dict.fromkeys(cls.parse(text, project) for text in _flatten(texts)))

    def __str__(self) -> str:
        return f"projects/{self.project}/operations/{self.id}"


#: How Jinja, JSON, pandas and JavaScript render a missing value, in lower case.
_NOTHING = frozenset({"", "none", "null", "nan", "undefined"})

#: Longer texts are not parsed as lists, since they could exhaust the parser.
_LONGEST_LIST = 1_000_000


def _flatten(texts: Any) -> Iterable[Any]:
    if isinstance(texts, str):
        texts = _parsed(texts.strip())
    if texts is None or (isinstance(texts, float) and math.isnan(texts)):
        return
    if isinstance(texts, Mapping):  # An operation as plain JSON, a task's record, or `task.status()`.
        texts = next((texts[key] for key in ("operation_names", "name", "id") if key in texts), texts)
    # A text is itself a sequence. Other types go to the parser, which refuses them.
    if isinstance(texts, (str, Mapping, OperationName)) or not isinstance(texts, Iterable):
        yield texts
        return
    for text in texts:
        yield from _flatten(text)


def _parsed(text: str) -> Any:
    """Parse a list, a tuple or an object that a template has rendered: JSON, a Python literal, or separate words."""
    if text.lower() in _NOTHING:
        return None
    if text[0] in "[({" and len(text) <= _LONGEST_LIST:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                return parse(text)
        return text
    words = re.split(r"[\s,]+", text)
    return [word for word in words if word] if len(words) > 1 else text
