"""Parameters that are JSON: an object, a text of JSON, or the name of a template file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
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
