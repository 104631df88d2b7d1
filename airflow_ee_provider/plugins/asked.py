"""Read the requests to the page's endpoints: with size limits, and only after the permission is checked.

FastAPI would read and check a body before that, on the API server's event loop, and return the invalid values.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException

from airflow_ee_provider.plugins.choosing import COLUMNS, Choice, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

#: The most bytes of a body: more than 30,000 names need.
LARGEST_BODY = 3 * 2**20

#: The most characters of an operation's name, and of a text in a query.
LONGEST_NAME = 300

#: The most operations that a query can request as ``limit``.
MOST_ROWS = 3000


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    :raises HTTPException: 413 if the body is too large, 422 if it is not a JSON object with the Content-Type of JSON.
        A form of another site cannot send that type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(422, "The body has to be JSON, with the Content-Type application/json.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise HTTPException(413, f"The body has more than {LARGEST_BODY:,} bytes.")
    try:
        value = await asyncio.to_thread(json.loads, bytes(body))
    except (ValueError, RecursionError):
        raise HTTPException(422, "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise HTTPException(422, "The body is not a JSON object.")
    return value


def names_in(value: dict[str, Any], least: int, most: int) -> list[str]:
    """Return the operations' names in a body.

    :raises HTTPException: 422 if the names are invalid, too few or too many. The error does not contain them.
    """
    names = value.get("operation_names")
    if not isinstance(names, list) or not least <= len(names) <= most:
        raise HTTPException(422, f"operation_names has to be a list of {least} to {most:,} operations' names.")
    if not all(isinstance(one, str) and one.isascii() and len(one) <= LONGEST_NAME for one in names):
        raise HTTPException(422, "operation_names contains a value that is not an operation's name.")
    return names


def time_in(value: dict[str, Any], name: str) -> datetime:
    """Return a time in a body.

    :raises HTTPException: 422 if the value is not a time, or has no time zone.
    """
    try:
        found = datetime.fromisoformat(str(value.get(name)).replace("Z", "+00:00"))
    except ValueError:
        found = datetime.min  # noqa: DTZ901 (it has no time zone, and is refused)
    if found.tzinfo is None:
        raise HTTPException(422, f"{name} has to be a time with a time zone, in ISO 8601.")
    return found


def place_in(params: Mapping[str, str]) -> Place:
    """Return the task instances that a query names.

    :raises HTTPException: 422 if a value is invalid.
    """
    texts = {name: _text(params, name) for name in ("dag_id", "run_id", "task_id") if name in params}
    return Place(**texts, map_index=_number(params, "map_index", -1, 2**31) if "map_index" in params else None)


def choice_in(params: Mapping[str, str]) -> Choice:
    """Return the filters and the order in a query: the fields of `Choice`.

    :raises HTTPException: 422 if a value is invalid.
    """
    sort = params.get("sort", "age")
    if sort not in COLUMNS:
        raise HTTPException(422, f"sort has to be one of {', '.join(COLUMNS)}.")
    return Choice(
        state=_text(params, "state"),
        dag=_text(params, "dag"),
        conn_id=_text(params, "conn_id"),
        text=_text(params, "text"),
        orphaned=_flag(params, "orphaned"),
        mine=_flag(params, "mine"),
        sort=sort,
        descending=_flag(params, "descending"),
        limit=_number(params, "limit", 0, MOST_ROWS) if "limit" in params else None,
        offset=_number(params, "offset", 0, 2**31) if "offset" in params else 0,
    )


def _text(params: Mapping[str, str], name: str) -> str:
    value = params.get(name, "")
    if len(value) > LONGEST_NAME:
        raise HTTPException(422, f"{name} has more than {LONGEST_NAME} characters.")
    return value


def _number(params: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = params.get(name, "")
    if not re.fullmatch(r"-?\d{1,12}", text, re.ASCII) or not least <= int(text) <= most:
        raise HTTPException(422, f"{name} has to be a number from {least} to {most}.")
    return int(text)


def _flag(params: Mapping[str, str], name: str) -> bool:
    value = params.get(name, "false")
    if value not in ("true", "false"):
        raise HTTPException(422, f"{name} has to be true or false.")
    return value == "true"
