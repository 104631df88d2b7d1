"""Functions for the parameters of operators: those that the base class also has, and those that are JSON.

An operator lists all its parameters, and passes those of its base class to it. A JSON parameter is an object, a text,
or the name of a template file.
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

    :param what: The name of the value in the error.
    :raises AirflowFailException: If it is not a JSON object.
    """
    try:
        found = json.loads(value) if isinstance(value, str) else value
        # Refuse values that Python accepts and JSON does not allow: NaN, lone surrogates, objects, endless nesting.
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise AirflowFailException(f"The {what} is not JSON: {error!s:.200}.") from None
    if not isinstance(found, Mapping):
        raise AirflowFailException(f"The {what} is not a JSON object.")
    return found


def passed_on(given: dict[str, Any], init: Callable[..., None]) -> dict[str, Any]:
    """Return the arguments that an ``__init__`` passes to the ``__init__`` of its base class.

    :param given: The ``locals()`` of the first one, with further arguments as ``kwargs``.
    :param init: The ``__init__`` of the base class. It names the parameters that it takes from ``given``.
    """
    named = {name: given[name] for name in _named_by(init) if name in given}
    return {**named, **given["kwargs"]}


@cache
def _named_by(init: Callable[..., None]) -> tuple[str, ...]:
    return tuple(name for name, one in signature(init).parameters.items() if one.kind is one.KEYWORD_ONLY)


def refuse(operator: object, kwargs: Mapping[str, Any], *names: str) -> None:
    """Refuse parameters of the base class that this operator does not have.

    :raises TypeError: If one is set.
    """
    if given := [name for name in names if name in kwargs]:
        raise TypeError(f"{type(operator).__name__} has no parameter {', '.join(given)}.")
