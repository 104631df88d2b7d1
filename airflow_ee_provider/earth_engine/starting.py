"""Start an export exactly once, whatever is lost or dies in between.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export (``requestId``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from airflow_ee_provider.earth_engine.calls import check_kind, get_operation, start_export
from airflow_ee_provider.earth_engine.effects import Flow, Note
from airflow_ee_provider.earth_engine.errors import InvalidRequestError
from airflow_ee_provider.earth_engine.operations import OperationState
from airflow_ee_provider.earth_engine.waiting import wait_for_operation

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.operations import Operation

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,60}")
_WORKLOAD_TAG = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Export:
    """What ``projects.{kind}.export`` is asked for.

    :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
    :param body: the API's own JSON, for example an ExportImageRequest.
    """

    kind: str
    body: Mapping[str, Any]

    def with_defaults(self, workload_tag: str | None, priority: int | None) -> Export:
        """Return it with a tag and a priority, where the body has none of its own."""
        defaults = {"workloadTag": workload_tag, "priority": priority}
        return Export(self.kind, {**{k: v for k, v in defaults.items() if v is not None}, **self.body})


def workload_tag_of(text: str) -> str:
    """Return the workload tag that is most like ``text``, as both the API and the official client allow it.

    >>> workload_tag_of("NDVI.monthly (v2)")
    'ndvi-monthly-v2'
    """
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:63].strip("-_")


@dataclass(frozen=True)
class StartOnce:
    """Who starts an export: the same start has the same identity, and so the same ``requestId``.

    :param identity: of a task, across its retries; not across its clears, after which a user wants another export.
    :param tries: how often the task has tried, this try included.
    """

    identity: str
    tries: int = 1

    def request_id(self, number: int) -> str:
        """Return the ``number``-th one, from 0; Earth Engine starts one operation for each at the most."""
        return f"{uuid5(NAMESPACE_URL, self.identity)}-{number}"


def check_export(export: Export) -> None:
    """Refuse what the API would refuse late.

    :raises InvalidRequestError: says what is wrong.
    """
    check_kind(export.kind)
    body = export.body
    if not body.get("expression"):
        raise InvalidRequestError("The export's body has no expression.", remedy="Give the API's own JSON.")
    options = [name for name in body if name.endswith("ExportOptions")]
    if len(options) != 1:
        raise InvalidRequestError(
            f"The export's body has {len(options)} export options: {', '.join(options) or 'none'}.",
            remedy="Give exactly one, for example fileExportOptions.",
        )
    priority = body.get("priority")
    priority = priority.get("value") if isinstance(priority, Mapping) else priority  # As the official client wraps it.
    if priority is not None and not (isinstance(priority, int) and 0 <= priority <= 9999):
        raise InvalidRequestError(f"The export's priority is {priority!r}.", remedy="Give an integer from 0 to 9999.")
    workload_tag = body.get("workloadTag", "")
    if workload_tag and not _WORKLOAD_TAG.fullmatch(str(workload_tag)):
        raise InvalidRequestError(
            f"The export's workloadTag is {workload_tag!r}.",
            remedy="Give up to 63 letters, digits, '-' and '_' that begin and end with a letter or a digit.",
        )
    request_id = body.get("requestId", "")
    if request_id and not _REQUEST_ID.fullmatch(str(request_id)):
        raise InvalidRequestError(
            f"The export's requestId is {request_id!r}.", remedy="Give up to 60 letters, digits and hyphens."
        )


def start_export_once(project: str, kind: str, body: Mapping[str, Any], start: StartOnce) -> Flow[Operation]:
    """Start an export, or find the one that an earlier try of the same task has started.

    A request that is repeated with its ``requestId`` finds the operation that it started, so nothing has to be
    remembered: a try finds what the tries before it have left, whether or not they lived to write it down. It goes on
    with what is active or has succeeded; after what has failed or was cancelled, it starts the next one.
    """
    check_export(Export(kind, body))
    for number in range(start.tries):
        operation = yield from start_export(project, kind, body, start.request_id(number))
        if number == start.tries - 1 and number == 0:
            break  # The first try has nothing to find.
        operation = yield from get_operation(operation.name)  # A repeated request may be answered as the first was.
        if operation.state is OperationState.CANCELLING:
            operation = yield from wait_for_operation(operation.name, poll_interval=5.0)
        if not operation.done or operation.succeeded:
            break
        yield Note(f"{operation.name}, which an earlier try has started, {operation.describe()}: it is started anew.")
    return operation
