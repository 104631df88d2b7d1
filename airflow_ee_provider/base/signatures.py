"""An operator lists its parameters itself, and passes those of its base class on."""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def passed_on(given: dict[str, Any], init: Callable[..., None]) -> dict[str, Any]:
    """Return what an ``__init__`` passes to that of a base class: the parameters that this one names, and the rest.

    :param given: its ``locals()``, of which ``kwargs`` is the rest.
    :param init: of the base class.
    """
    named = {name: given[name] for name in _named_by(init) if name in given}
    return {**named, **given["kwargs"]}


@cache
def _named_by(init: Callable[..., None]) -> tuple[str, ...]:
    return tuple(name for name, one in signature(init).parameters.items() if one.kind is one.KEYWORD_ONLY)


def refuse(operator: object, kwargs: Mapping[str, Any], *names: str) -> None:
    """Refuse parameters that a base class has, and this operator has no use for.

    :raises TypeError: if one is given.
    """
    if given := [name for name in names if name in kwargs]:
        raise TypeError(f"{type(operator).__name__} has no parameter {', '.join(given)}.")
