"""Parses the package's docstrings, and returns their text and fields as Markdown."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"^:(\w+)(?: (\w+))?: (.*?)(?=^:|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Described:
    """The parts of a docstring, as Markdown."""

    text: str
    parameters: dict[str, str]
    returns: str
    raises: dict[str, str]


def described(thing: Any) -> Described:
    """Return the parts of a class's or a function's docstring."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    text, fields, rest = doc.partition("\n:") if not doc.startswith(":") else ("", "\n:", doc[1:])
    parameters, raises, returns = {}, {}, ""
    for kind, name, said in _FIELD.findall((fields + rest).strip()):
        if kind == "param":
            parameters[name] = _line(said)
        elif kind == "raises":
            raises[name] = _line(said)
        elif kind == "return":
            returns = _line(said)
    return Described(markdown(text.strip()), parameters, returns, raises)


def markdown(text: str) -> str:
    """Return a docstring's text as Markdown."""
    text = re.sub(r"\.\. seealso:: (\S+)", r"See [Earth Engine's documentation](\1).", text)
    return text.replace("``", "`")


def _line(text: str) -> str:
    """Return a field's text on one line, without ``(templated)``, which the pages show separately."""
    text = re.sub(r"\s*\(templated\)", "", " ".join(markdown(text).split()))
    return text if text.endswith((".", "!")) else f"{text}."
