"""Start an operation exactly once, also if a request is lost or a process dies.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.image/export (``requestId``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError, TransientError
from airflow_ee_provider.earth_engine.model.operations import OperationState
from airflow_ee_provider.earth_engine.protocol.api_methods import check_kind, encode, get_operation, start_operation
from airflow_ee_provider.earth_engine.protocol.effects import Flow, LogMessage, Request, SideBySide
from airflow_ee_provider.earth_engine.protocol.retries import attempt, checked
from airflow_ee_provider.earth_engine.protocol.waiting import WaitOptions, wait_for_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
    from airflow_ee_provider.earth_engine.model.operations import Operation
    from airflow_ee_provider.earth_engine.protocol.effects import Effect

#: Fields in which two equal requests may differ.
NOT_IN_KEY = frozenset({"requestId"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,60}")
#: The field of a manifest with the asset's sources, for each kind of import.
_SOURCES = {"image": "tilesets", "table": "sources"}

#: The kinds of asset that ``projects.{kind}.import`` makes.
IMPORT_KINDS = tuple(_SOURCES)

_WORKLOAD_TAG = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Export:
    """A request to ``projects.{kind}.export``.

    :param kind: ``image``, ``table``, ``video``, ``videoMap``, ``map`` or ``classifier``.
    :param body: The API's own JSON, for example an ExportImageRequest.
    :param project: The Cloud project that runs it; empty for the connection's.
    """

    kind: str
    body: Mapping[str, Any]
    project: str = ""

    @property
    def method(self) -> str:
        """The API's method, as it stands in a URL: ``image:export``."""
        return f"{self.kind}:export"


@dataclass(frozen=True)
class Import:
    """A request to ``projects.{kind}.import``.

    :param kind: One of `IMPORT_KINDS`.
    :param manifest: The API's own JSON, with the asset's name and sources.
    :param project: The Cloud project that runs it; empty for the connection's.
    """

    kind: str
    manifest: Mapping[str, Any]
    overwrite: bool = False
    project: str = ""

    @property
    def method(self) -> str:
        """The API's method, as it stands in a URL: ``image:import``."""
        return f"{self.kind}:import"

    @property
    def body(self) -> dict[str, Any]:
        """The API's own JSON. The asset's name is the description."""
        asset = str(self.manifest.get("name", ""))
        return {f"{self.kind}Manifest": self.manifest, "description": asset, "overwrite": self.overwrite}


def check_import(wanted: Import) -> None:
    """Refuse an import that the API would refuse later.

    :raises InvalidRequestError: If the import is not valid, with the reason.
    """
    sources = _SOURCES.get(wanted.kind)
    if sources is None:
        kinds = ", ".join(IMPORT_KINDS)
        raise InvalidRequestError(f"{wanted.kind!r} is not a kind of import.", remedy=f"One of {kinds}.")
    for name, example in (("name", "projects/PROJECT/assets/NAME"), (sources, "what the asset is made of")):
        if not wanted.manifest.get(name):
            raise InvalidRequestError(f"The import's manifest has no {name}.", remedy=f"Give {example}.")


def with_defaults(body: Mapping[str, Any], workload_tag: str | None, priority: int | None) -> dict[str, Any]:
    """Return the body, with this workload tag and this priority if it has none."""
    defaults = {"workloadTag": workload_tag or None, "priority": priority}
    given = {name: value for name, value in body.items() if name != "workloadTag" or value}
    return {**{name: value for name, value in defaults.items() if value is not None}, **given}


def workload_tag_of(text: str) -> str:
    """Return ``text`` reduced to a workload tag that the API and the official client allow.

    >>> workload_tag_of("NDVI.monthly (v2)")
    'ndvi-monthly-v2'
    """
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())[:63].strip("-_")


@dataclass(frozen=True)
class Start:
    """A start that happens once: the same start always has the same ``requestId``.

    :param method: ``image:export``, ``table:import`` and so on.
    :param body: The request's JSON; its ``requestId`` is replaced.
    :param identity: The task's identity: the same in all retries, another one after a clear.
    :param repeat: How many equal starts the task made before this one.
    :param tries: The most tries that the task may have had, including this one.
    :param gone_since: When its output did not exist, in seconds since the epoch by Earth Engine's clock. An operation
        that has succeeded before that time is started again. None if no such time is known.
    """

    method: str
    body: Mapping[str, Any]
    identity: str
    project: str = ""
    repeat: int = 0
    tries: int = 1
    gone_since: float | None = None

    @cached_property
    def asked(self) -> tuple[str, str, str]:
        """The request's method, project and hashed body, without the fields in `NOT_IN_KEY`."""
        body = encode({name: value for name, value in self.body.items() if name not in NOT_IN_KEY})
        return self.method, self.project, sha256(body).hexdigest()

    @cached_property
    def key(self) -> str:
        """The beginning of its request ids: the same for each try of the task."""
        return str(uuid5(NAMESPACE_URL, f"{self.identity}/{self.project}/{self.method}/{self.asked[2]}/{self.repeat}"))

    def request_id(self, number: int) -> str:
        """Return the ``number``-th request id, from 0. Earth Engine starts at most one operation for each id."""
        return f"{self.key}-{number}"

    def repeated(self, repeat: int) -> Start:
        """Return another start of the same request, after ``repeat`` equal ones."""
        another = replace(self, repeat=repeat)
        another.__dict__["asked"] = self.asked  # A body can be large: it is encoded once.
        return another

    def with_tries(self, tries: int) -> Start:
        """Return the same start with another number of ``tries``."""
        return replace(self, tries=tries).known_by(self.key) if tries != self.tries else self

    def known_by(self, key: str) -> Start:
        """Set a known key, since computing it takes long for a large body. Return this start."""
        self.__dict__["key"] = key
        return self

    def describe(self) -> str:
        """Return the method, with the description or the asset's name if there is one."""
        manifest = next((v for k, v in self.body.items() if k.endswith("Manifest") and isinstance(v, Mapping)), {})
        name = self.body.get("description") or manifest.get("name") or ""
        return f"{self.method} {str(name)!r}".removesuffix(" ''")

    def is_to_follow(self, operation: Operation) -> bool:
        """Whether another operation must follow this one, which an earlier try has started."""
        if not operation.succeeded:
            return operation.done
        ended = operation.end_time or operation.update_time
        return self.gone_since is not None and (ended is None or ended.timestamp() <= self.gone_since)


def check_export(export: Export) -> None:
    """Refuse an export that the API would refuse later.

    :raises InvalidRequestError: If the export is not valid, with the reason.
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


def start_all(
    project: str,
    starts: Sequence[Start],
    stopped: Callable[[Start], bool],
    as_done: Callable[[tuple[Start, Operation | EarthEngineError]], None],
) -> Flow[None]:
    """Start operations concurrently, each as `start_once` does. An error does not stop the others.

    :param stopped: Called before each start request; returns True if no more operations may be started.
    :param as_done: Called with each operation, or with the error of its start, as soon as it is known.
    """

    def start_one(start: Start) -> Flow[tuple[Start, Operation | EarthEngineError]]:
        return start, (yield from attempt(start_once(project, start, partial(stopped, start))))

    yield SideBySide([start_one(start) for start in starts], as_done)


def start_once(project: str, start: Start, stopped: Callable[[], bool] = lambda: False) -> Flow[Operation]:
    """Start an operation, or find the one that an earlier try of the same task has started.

    A repeated request with the same ``requestId`` returns the operation that the first one started. So a try finds the
    operations of earlier tries, even if these crashed before they recorded the names. It continues with an operation
    that is active or has succeeded. After one that failed or was cancelled, it starts the next one.

    :param project: The project that runs it, if ``start`` names none.
    :param stopped: Called before each start request; returns True if no more operations may be started.
    :raises TransientError: If no more operations may be started.
    """
    return _unless(stopped, _start_once(start.project or project, start))


def _start_once(project: str, start: Start) -> Flow[Operation]:
    number = 0
    while True:
        operation = yield from start_operation(project, start.method, start.body, start.request_id(number))
        number += 1
        if start.tries == 1:
            return operation  # In the first try, there is no earlier operation.
        operation = yield from get_operation(operation.name)  # The response to a repeated request may be outdated.
        if operation.state is OperationState.CANCELLING:
            [operation] = yield from wait_for_operations([operation.name], WaitOptions(poll_interval=5.0))
        if number >= start.tries or not start.is_to_follow(operation):
            return operation
        why = "; its output no longer exists" if operation.succeeded else ""
        yield LogMessage(f"Starting an earlier try's operation again. {operation.log_line}{why}.")


def _unless(stopped: Callable[[], bool], flow: Flow[Operation]) -> Flow[Operation]:
    """Run a flow, and raise before a start request if no more operations may be started."""

    def check(effect: Effect) -> Flow[None]:
        if isinstance(effect, Request) and effect.method == "POST" and stopped():
            raise TransientError("Not started, since the task was killed.", subject=effect.subject)
        yield from ()

    return checked(flow, check)
