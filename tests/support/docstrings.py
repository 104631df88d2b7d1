"""A docstring of the package as Markdown: its text, and its fields."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"^:(\w+)(?: (\w+))?: (.*?)(?=^:|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Described:
    """What a docstring has."""

    text: str
    parameters: dict[str, str]
    returns: str
    raises: dict[str, str]


def described(thing: Any) -> Described:
    """Return what a class's or a function's docstring has."""
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
    """Return a field's text on one line, without the mark that the list has apart."""
    text = re.sub(r"\s*\(templated\)", "", " ".join(markdown(text).split()))
    return text if text.endswith((".", "!")) else f"{text}."
