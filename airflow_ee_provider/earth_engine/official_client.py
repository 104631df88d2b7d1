"""What the official client's export tasks, operations and names stand for.

Follows ``ee.batch.Task`` and https://developers.google.com/earth-engine/apidocs/export-image-tocloudstorage
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.flows.starting import Export
from airflow_ee_provider.earth_engine.operation_names import OperationName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

#: ``ee.batch.Task.task_type`` -> the kind of export that the API knows.
KINDS = {
    "EXPORT_IMAGE": "image",
    "EXPORT_FEATURES": "table",
    "EXPORT_VIDEO": "video",
    "EXPORT_TILES": "map",
    "EXPORT_CLASSIFIER": "classifier",
}

#: An operation's id by itself, as Earth Engine makes them: any other word that a function returns is none.
_ID = re.compile(r"[A-Z2-7]{24}")

_RETURN = (
    "Return ee.batch.Task objects, operations' names, or nothing: what the function starts is owned, whatever it "
    "returns."
)


def exports_of(returned: Any, project: str, started: Collection[str]) -> list[Export | OperationName]:
    """Read what a function has returned: export tasks, started or not, names and operations, in any nesting.

    :param project: the Cloud project of bare ids, and the one in which what is not started yet is to run.
    :param started: the names of the operations that the function has started.
    :raises InvalidRequestError: for anything else, and for operations that the function has only listed.
    """
    return list(_exports_of(returned, project, started))


def _exports_of(returned: Any, project: str, started: Collection[str]) -> Iterator[Export | OperationName]:
    if returned is None:
        return
    if isinstance(returned, OperationName):
        yield returned
    elif isinstance(returned, str):
        yield _named(returned, project)
    elif hasattr(returned, "task_type") and hasattr(returned, "config"):
        name = returned.name or returned.id
        yield _own(name, project, started) if name else _export_of(returned, project)
    elif isinstance(returned, Mapping) and (name := _operation_in(returned)):
        yield _own(name, project, started)
    elif isinstance(returned, (Mapping, Iterable)) and not isinstance(returned, (bytes, bytearray)):
        for item in returned.values() if isinstance(returned, Mapping) else returned:
            yield from _exports_of(item, project, started)
    else:
        raise InvalidRequestError(f"The function returned {type(returned).__name__} {returned!r:.200}.", remedy=_RETURN)


def _named(text: str, project: str) -> OperationName:
    if "/" not in text and not _ID.fullmatch(text):
        raise InvalidRequestError(f"The function returned {text!r:.200}, which names no operation.", remedy=_RETURN)
    return OperationName.parse(text, project)


def _operation_in(value: Mapping[Any, Any]) -> str:
    """Return the name or id of an operation as plain JSON: the API's own, ``task.status()``, an ingestion's answer."""
    name, identity = value.get("name"), value.get("id")
    if isinstance(name, str) and "/operations/" in name:
        return name
    return identity if isinstance(identity, str) and _ID.fullmatch(identity) else ""


def _own(text: str, project: str, started: Collection[str]) -> OperationName:
    """Return the name of an operation that the function has started.

    :raises InvalidRequestError: if it has not: a list shows everybody's operations.
    """
    by_id = {name.rpartition("/")[2]: name for name in started}
    name = by_id.get(text, text)
    parsed = OperationName.parse(name, project)
    if str(parsed) not in started:
        raise InvalidRequestError(
            "The function returned an operation that it has not started: a list shows everybody's.",
            subject=str(parsed),
            remedy="If this task is to own it, and to cancel it, return its name as a text.",
        )
    return parsed


def _export_of(task: Any, project: str) -> Export:
    """Return what ``task.start()`` would ask for, but for its ``requestId``."""
    import ee

    body = {"workloadTag": task.workload_tag, **(task.config or {})}
    if not body["workloadTag"]:
        del body["workloadTag"]
    if isinstance(body.get("expression"), ee.Encodable):
        body["expression"] = ee.serializer.encode(body["expression"], for_cloud_api=True)
    kind = str(getattr(task.task_type, "value", task.task_type))
    return Export(KINDS.get(kind, kind), body, project)
