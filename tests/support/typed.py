"""Checks JSON against a type of ours."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict


def mistakes(value: Any, kind: Any, where: str = "") -> list[str]:
    """Return where a value differs from a `TypedDict`, a list, a union or a plain type; an extra key counts, too."""
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        hints = get_type_hints(kind)
        found = [f"{where}.{name}: only one of both has it" for name in sorted(hints.keys() ^ value.keys())]
        return found + [one for name in hints.keys() & value.keys() for one in mistakes(value[name], hints[name], name)]
    if get_origin(kind) in (Union, types.UnionType):
        every = [mistakes(value, one, where) for one in get_args(kind)]
        return [] if [] in every else min(every, key=len)
    if get_origin(kind) is list:
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [
            one for index, item in enumerate(value) for one in mistakes(item, get_args(kind)[0], f"{where}[{index}]")
        ]
    kind = type(None) if kind is None else kind
    # JSON has one type of number, and `true` is not a number.
    allowed = (int, float) if kind is float else kind
    is_it = kind is Any or (isinstance(value, allowed) and (kind is bool or not isinstance(value, bool)))
    return [] if is_it else [f"{where}: {value!r} is no {kind}"]
