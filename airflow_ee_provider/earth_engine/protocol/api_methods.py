"""The methods of the API, as flows: each sends a request, or reads the pages of a list.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.operations
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_ee_provider.earth_engine.model.errors import (
    EarthEngineError,
    InvalidOperationNameError,
    InvalidRequestError,
    TransientError,
)
from airflow_ee_provider.earth_engine.model.operation_names import OperationName, check_project
from airflow_ee_provider.earth_engine.model.operations import Operation
from airflow_ee_provider.earth_engine.protocol.effects import Flow, LogMessage, Request
from airflow_ee_provider.earth_engine.protocol.retries import BACKOFF, Backoff, call, request_with_answer, server_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

#: The kinds of export that ``projects.{kind}.export`` knows.
EXPORT_KINDS = ("image", "table", "video", "videoMap", "map", "classifier")

#: The operations in one page of a list: as many as the official client requests.
PAGE_SIZE = 500

#: The most pages of a list, and the most characters of a page's token. A project's queue can have 3,000 operations, and
#: a list also contains the operations of the last days.
MOST_PAGES, LONGEST_TOKEN = 400, 4096


def get_operation(name: OperationName, backoff: Backoff = BACKOFF) -> Flow[Operation]:
    """``projects.operations.get``.

    :raises TransientError: If the response is about another operation, so that the caller does not act on that one.
    :raises EarthEngineError: If the response is about an operation of another project. A retry would not help.
    """
    payload = yield from call(Request("GET", str(name), str(name)), backoff)
    answered = _name_in(payload, str(name))
    if answered.id != name.id:
        raise TransientError(f"Earth Engine returned another operation, {answered}.", subject=str(name))
    if not is_same_project(answered.project, name.project):
        raise EarthEngineError(
            f"Earth Engine returned an operation of another project, {answered}.",
            subject=str(name),
            remedy="Give the operation's full name, with the project that started it.",
        )
    return Operation.from_api(payload, name)


def _name_in(payload: Mapping[str, Any], subject: str) -> OperationName:
    """Return the name of the operation in a response.

    :raises InvalidOperationNameError: If there is none. The error contains ``subject``.
    """
    try:
        return OperationName.parse(payload.get("name", ""))
    except InvalidOperationNameError as error:
        raise InvalidOperationNameError(f"Earth Engine's answer is of no use: {error}", subject=subject) from None


#: An operation of any project also has a name in this project.
_LEGACY = "earthengine-legacy"


def is_same_project(answered: str, asked: str) -> bool:
    """Whether two names can mean the same project: they are equal, an id and a number, or one is the legacy project.

    The number of a project is not known here. The id of an operation is enough to identify it, since ids are unique.
    """
    return answered == asked or _LEGACY in (answered, asked) or answered.isdecimal() != asked.isdecimal()


class _Skipped(str):
    """The id of an operation that is not needed, in place of its JSON.

    A page's JSON has thousands of dicts. Python's garbage collector counts dicts, but no texts: after some lists, it
    would check all objects of the process, which takes most of a second in the API server.
    """

    __slots__ = ()


@dataclass(frozen=True)
class Listing:
    """A project's operations, and when the first page of them was read, by Earth Engine's clock.

    :param listed: The number of operations in the list, including those that have ended.
    """

    operations: list[Operation]
    read_at: datetime | None
    listed: int = 0


def list_operations(
    project: str,
    page_size: int = PAGE_SIZE,
    most: int | None = None,
    *,
    active_only: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> Flow[Listing]:
    """``projects.operations.list``: read the operations of all users of the project, but of no other project.

    The API documents neither the values of ``filter`` nor the order of the list, so all pages are read.

    :param most: Stop after this number of operations; None for all.
    :param active_only: Do not parse or return operations that have ended.
    :param after_each: Called for each operation in the JSON, if ``active_only``.
    """
    found: dict[OperationName, Operation] = {}
    foreign: dict[str, None] = {}
    listed = 0

    def replace(payload: dict[str, Any]) -> Any:
        after_each()
        return _listed(payload, project, foreign, active_only=True) or payload

    def take(page: list[Any]) -> bool:
        nonlocal listed
        listed += len(page)
        for entry in page:
            one = _listed(entry, project, foreign, active_only=active_only) if isinstance(entry, Mapping) else entry
            if isinstance(one, Operation):
                found[one.name] = one
            elif isinstance(one, _Skipped):
                found.pop(OperationName(project, one), None)  # The operation has ended since an earlier page was read.
        return most is not None and len(found) >= most

    read_pages = yield from _pages(project, page_size, take, replace if active_only else None)
    if foreign:
        yield LogMessage(
            f"The list of projects/{project} has {len(foreign)} operations of other projects, such as "
            f"{next(iter(foreign))}. They are ignored.",
            warning=True,
        )
    if read_pages.came_round:
        raise TransientError("Earth Engine's list of operations repeats a page.", subject=f"projects/{project}")
    return Listing(list(found.values()), read_pages.since, listed)


def _listed(
    payload: Mapping[str, Any], project: str, foreign: dict[str, None], *, active_only: bool
) -> Operation | _Skipped | None:
    """Read an entry of a project's list; None for an invalid entry and for an operation of another project."""
    with suppress(InvalidOperationNameError):
        name = OperationName.parse(payload.get("name", ""))
        if is_same_project(name.project, project):
            is_of_use = not active_only or payload.get("done") is not True
            return Operation.from_api(payload, OperationName(project, name.id)) if is_of_use else _Skipped(name.id)
        foreign[str(name)] = None
    return None


def find_operations(
    project: str, names: Collection[OperationName], most_pages: int
) -> Flow[dict[OperationName, Operation]]:
    """``projects.operations.list``: read pages until these operations are found; return those that were found.

    :param most_pages: The most pages that are read.
    """
    wanted = {name.id: name for name in names}
    found: dict[OperationName, Operation] = {}
    pages = 0

    def read(payload: Mapping[str, Any]) -> Operation | _Skipped:
        answered, _, operation_id = str(payload.get("name")).removeprefix("projects/").partition("/operations/")
        is_needed = (name := wanted.get(operation_id)) and is_same_project(answered, name.project)
        return Operation.from_api(payload, name) if is_needed else _Skipped(operation_id)

    def take(page: list[Any]) -> bool:
        nonlocal pages
        pages += 1
        for entry in page:
            one = read(entry) if isinstance(entry, Mapping) else entry
            if isinstance(one, Operation):
                found[one.name] = one
        return len(found) == len(wanted) or pages >= most_pages

    yield from _pages(project, PAGE_SIZE, take, read)  # Most entries of a page are other operations.
    return found


class _Read(NamedTuple):
    """When the first page was read, and whether the list has led back to an earlier page."""

    since: datetime | None
    came_round: bool


def _pages(
    project: str,
    page_size: int,
    take: Callable[[list[Any]], bool],
    replace: Callable[[dict[str, Any]], Any] | None = None,
) -> Flow[_Read]:
    """Read page after page, until ``take`` returns True or the list ends."""
    seen, token, since = {""}, "", None
    while True:
        page, token, read_at = yield from _page(project, page_size, token, replace)
        since = since or read_at
        if take(page) or not token:
            return _Read(since, came_round=False)
        if len(seen) >= MOST_PAGES or len(token) > LONGEST_TOKEN:
            raise TransientError(
                f"Earth Engine's list of operations has no end: {len(seen)} pages were read.",
                subject=f"projects/{project}",
            )
        if token in seen:
            return _Read(since, came_round=True)
        seen.add(token)


def _page(
    project: str, page_size: int, token: str, replace: Callable[[dict[str, Any]], Any] | None
) -> Flow[tuple[list[Any], str, datetime | None]]:
    subject = f"projects/{check_project(project)}"
    query = (("pageSize", str(page_size)), *((("pageToken", token),) if token else ()))
    # Only for operations: an error's details can also have metadata, but no name.
    hook = replace and (lambda one: replace(one) if {"name", "metadata"} <= one.keys() else one)
    request = Request("GET", f"{subject}/operations", subject, query=query, replace=hook)
    page, answer = yield from request_with_answer(request)
    operations, following = page.get("operations"), page.get("nextPageToken")
    kinds = (Mapping, Operation, _Skipped)
    found = [one for one in operations if isinstance(one, kinds)] if isinstance(operations, list) else []
    return found, following if isinstance(following, str) else "", server_time(answer)


def cancel_operation(name: OperationName) -> Flow[None]:
    """``projects.operations.cancel``: request the cancel. A response does not mean that the operation is cancelled."""
    yield from call(Request("POST", f"{name}:cancel", str(name)))


def delete_operation(name: OperationName) -> Flow[None]:
    """``projects.operations.delete``: delete the operation's entry. This does not cancel the operation."""
    yield from call(Request("DELETE", str(name), str(name)))


def encode(body: Mapping[str, Any]) -> bytes:
    """Serialize deterministically: Earth Engine can refuse a requestId that it has received with other bytes."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def check_kind(kind: str) -> None:
    """Check that ``kind`` is one of `EXPORT_KINDS`.

    :raises InvalidRequestError: If it is not. The error lists them.
    """
    if kind not in EXPORT_KINDS:
        raise InvalidRequestError(f"{kind!r} is not a kind of export.", remedy=f"One of {', '.join(EXPORT_KINDS)}.")


def start_export(project: str, kind: str, body: Mapping[str, Any], request_id: str | None = None) -> Flow[Operation]:
    """``projects.{kind}.export``: start an export. The request is only repeated if it has a request id.

    :param kind: One of `EXPORT_KINDS`.
    :param body: The API's own JSON, for example an ExportImageRequest.
    :param request_id: Of several requests with the same id, Earth Engine carries out only the first.
    :raises InvalidRequestError: If ``kind`` is not one of `EXPORT_KINDS`. No request is sent.
    """
    check_kind(kind)
    return (yield from start_operation(project, f"{kind}:export", body, request_id))


def start_operation(
    project: str, method: str, body: Mapping[str, Any], request_id: str | None = None
) -> Flow[Operation]:
    """Start an operation with a method such as ``image:export`` or ``table:import``.

    :raises InvalidRequestError: If ``body`` is no object. No request is sent.
    :raises EarthEngineError: If the response is about an operation of another project, which the task does not own.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError(
            f"The body of {method} is a {type(body).__name__}, not an object.",
            remedy="Give the API's own JSON as a dict; json.loads makes one of a text.",
        )
    payload = {**body, "requestId": request_id} if request_id else dict(body)
    subject = f"projects/{check_project(project)}"
    repeatable = bool(payload.get("requestId"))
    request = Request("POST", f"{subject}/{method}", subject, body=encode(payload), repeatable=repeatable)
    answer = yield from call(request)
    name = _name_in(answer, subject)
    if not is_same_project(name.project, project):
        raise EarthEngineError(
            f"Earth Engine answered a start with an operation of another project, {name}. The task does not own it.",
            subject=subject,
            remedy="Check whether it runs, and cancel it manually.",
        )
    return Operation.from_api(answer, OperationName(project, name.id))
