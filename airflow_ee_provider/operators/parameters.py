"""Parameters of operators: those that a base class has as well, and those that are JSON.

An operator lists its parameters itself, and passes those of its base class on. JSON is an object, a text, or the name
of a template file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import BaseOperator


def file_of(operator: BaseOperator, value: Any) -> Any:
    """Return the content of a template file if the value is a text that ends with ``.json``; otherwise the value."""
    if not (isinstance(value, str) and value.strip().endswith(".json")):
        return value
    environment = operator.get_template_env()
    assert environment.loader is not None  # noqa: S101 (a DAG's environment has one)
    return environment.loader.get_source(environment, value.strip())[0]


def read_json(value: Any, what: str) -> Mapping[str, Any]:
    """Return the JSON object of a rendered value.

    :param what: What the value is, for the error.
    :raises AirflowFailException: If it is not a JSON object.
    """
    try:
        found = json.loads(value) if isinstance(value, str) else value
        # What Python takes for JSON and others do not: NaN, half a character, objects, depths without end.
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise AirflowFailException(f"The {what} is not JSON: {error!s:.200}.") from None
    if not isinstance(found, Mapping):
        raise AirflowFailException(f"The {what} is not a JSON object.")
    return found


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
