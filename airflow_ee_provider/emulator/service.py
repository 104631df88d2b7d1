"""The emulated service: its operations, and the methods of the API. No I/O."""

from __future__ import annotations

import json
import random
import re
import string
import threading
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.emulator.faults import ApiError, Fault
from airflow_ee_provider.emulator.limits import Gate, Limits
from airflow_ee_provider.emulator.operations import FRACTION_DIGITS, TYPES, Behaviour, Clock, EmulatedOperation
from airflow_ee_provider.emulator.request_checks import FIELDS, check_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PROJECT = re.compile(r"[A-Za-z0-9.:_-]+")
_LARGEST_PAGE = 500
_LEGACY = "projects/earthengine-legacy/operations/"


class Service:
    """The operations of all projects, in memory. Several threads can use it.

    :param behaviour: How an operation runs, unless `behave` has set another behaviour for its description.
    :param queue_limit: The most operations of a project that may be pending or running.
    :param limits: The limits for requests; none by default.
    :param fraction_digits: Digits after the second in timestamps, 0 to 9. New operations use these numbers in turn.
    """

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        queue_limit: int = 3000,
        limits: Limits | None = None,
        fraction_digits: Sequence[int] = FRACTION_DIGITS,
    ) -> None:
        self.clock = Clock()
        self.behaviour = behaviour or Behaviour()
        self.queue_limit = queue_limit
        self._fraction_digits = fraction_digits
        self.gate = Gate(limits or Limits())
        #: One entry for each request: ``time`` (seconds since the epoch), ``method``, ``path``, ``status``, ``body``…
        self.journal: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.operations: dict[str, EmulatedOperation] = {}
        self._behaviours: list[tuple[str, Behaviour]] = []
        self._answers: list[tuple[str, str, Any]] = []
        #: Requests, such as ``POST projects/p/value:compute``, to which no answer was defined.
        self.unanswered: list[str] = []
        #: By project, the operations that had not ended at the last check.
        self._waiting: dict[str, list[EmulatedOperation]] = {}
        self._started: dict[tuple[str, str], tuple[str, str]] = {}
        self._random = random.Random()
        self._lock = threading.RLock()

    def behave(self, description: str = "*", **behaviour: Any) -> None:
        """Set the behaviour of new operations whose description matches a glob; the latest rule that matches applies.

        :param description: The glob.
        :param behaviour: Fields of `Behaviour`; the others keep the service's default.
        """
        if not isinstance(description, str):
            raise TypeError(f"description is {description!r} and has to be a string.")
        with self._lock:
            self._behaviours.insert(0, (description, replace(self.behaviour, **behaviour)))

    def fail(self, what: str, **fault: Any) -> None:
        """Add a fault for requests. The arguments are the fields of a `Fault`."""
        with self._lock:
            self.faults.append(Fault(what, **fault))

    def answer(self, path: str, answer: Any, method: str = "*") -> None:
        """Define the answer to requests for values, assets, maps and so on; the latest one that matches applies.

        :param path: The request's path without the version, as a glob: ``projects/*/value:compute``.
        :param answer: The answer's JSON, or its bytes, or a function that returns either for the request's JSON (None
            without a body). For ``getInfo()``, define ``{"result": …}`` as the answer to ``value:compute``.
        :param method: The request's HTTP method, as a glob.
        """
        with self._lock:
            self._answers.insert(0, (method.upper(), path, answer))

    def has_answer(self, method: str, path: str) -> bool:
        """Whether a test has defined an answer to such a request."""
        return self._defined(method, path) is not None

    def anything_else(self, method: str, path: str, body: Any) -> Any:
        """Return the defined answer to a request that is not about operations.

        :raises ApiError: If no answer is defined. No client retries its status, and its message begins with the remedy.
        """
        defined = self._defined(method, path)
        if defined is None:
            self.unanswered.append(f"{method} {path}")
            pattern = re.sub(r"^projects/[^/]+/", "projects/*/", path)
            raise ApiError(
                "FAILED_PRECONDITION",
                f'The emulator computes nothing: define its answer with service.answer("{pattern}", ...). It has none '
                f"to {method} {path}.",
            )
        [answer] = defined
        return answer(body) if callable(answer) else answer

    def _defined(self, method: str, path: str) -> tuple[Any] | None:
        with self._lock:
            return next(((a,) for m, p, a in self._answers if fnmatchcase(method, m) and fnmatchcase(path, p)), None)

    def fault_for(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request gets; None if there is none."""
        with self._lock:
            return next((fault for fault in self.faults if fault.meets(method, path)), None)

    def record(self, **entry: Any) -> None:
        """Write a request into the journal."""
        self.journal.append({"time": time.time(), **entry})

    def requests(self, method: str = "*", path: str = "*") -> list[dict[str, Any]]:
        """Return the journal's entries of a method and a path (globs, without the version)."""
        return [e for e in list(self.journal) if fnmatchcase(e["method"], method) and fnmatchcase(e["path"], path)]

    def state(self, name: str) -> str:
        """Return an operation's state."""
        return self.operations[name].state(self.clock.now())

    def add(self, description: str = "", project: str = "earth-demo", kind: str = "image", **behaviour: Any) -> str:
        """Add an operation, as another user of the project would, and return its name.

        :raises ValueError: If an argument is not valid.
        """
        if not isinstance(description, str) or not _PROJECT.fullmatch(str(project)) or kind not in TYPES:
            raise ValueError(
                f"One of these is not valid: kind {kind!r}, description {description!r}, project {project!r}."
            )
        with self._lock:
            return self._create(project, kind, {"description": description}, behaviour).name

    def finish(self, name: str, outcome: str = "SUCCEEDED") -> None:
        """End an operation now."""
        with self._lock:
            operation = self.operations[name]
            run_seconds = max(0.0, self.clock.now() - operation.started)
            operation.behaviour = replace(operation.behaviour, run_seconds=run_seconds, outcome=outcome)

    def get(self, name: str) -> dict[str, Any]:
        """``operations.get``."""
        operation = self._find(name)
        operation.reads += 1
        return operation.as_json(self.clock.now())

    def list(self, project: str, page_size: int, page_token: str) -> dict[str, Any]:
        """``operations.list``, newest first; an empty object if there are no operations."""
        with self._lock:
            mine = [o for o in reversed(self.operations.values()) if o.name.startswith(f"projects/{project}/")]
        start = int(page_token) if page_token.isdigit() else 0
        end = start + min(page_size or _LARGEST_PAGE, _LARGEST_PAGE)
        now = self.clock.now()
        for operation in mine[start:end]:
            operation.reads += 1
        page: dict[str, Any] = {"operations": [o.as_json(now) for o in mine[start:end]]} if mine[start:end] else {}
        if end < len(mine):
            page["nextPageToken"] = str(end)
        return page

    def cancel(self, name: str) -> dict[str, Any]:
        """``operations.cancel``: the operation is CANCELLING from now on, if it has not ended."""
        with self._lock:
            operation, now = self._find(name), self.clock.now()
            if operation.done(now):
                raise ApiError("FAILED_PRECONDITION", f"Operation {name} has already completed.")
            if operation.cancel_requested is None:
                operation.cancel_requested = now
        return {}

    def delete(self, name: str) -> dict[str, Any]:
        """``operations.delete``: delete the operation."""
        with self._lock:
            del self.operations[self._find(name).name]
        return {}

    def start(self, project: str, kind: str, body: bytes) -> dict[str, Any]:
        """``{kind}.export`` or ``.import``: start an operation, or find the one that the same requestId has started.

        :param kind: ``image``, or ``image:import``.
        """
        if kind not in FIELDS:
            raise ApiError("NOT_FOUND", f"The API has no method {kind}.")
        request = _json(body)
        check_request(kind, request)
        request_id = request.get("requestId") or ""
        canonical = json.dumps(request, sort_keys=True)
        with self._lock:
            if request_id and (known := self._started.get((project, request_id))):
                if known[1] != canonical:
                    raise ApiError("INVALID_ARGUMENT", f"A different request was already made with id {request_id!r}.")
                return self._find(known[0]).as_json(self.clock.now())
            self._check_queue(project)
            operation = self._create(project, kind, request, {})
            if request_id:
                self._started[project, request_id] = (operation.name, canonical)
        return operation.as_json(self.clock.now())

    def _check_queue(self, project: str) -> None:
        waiting = self._waiting.setdefault(project, [])
        if len(waiting) >= self.queue_limit:  # Only a full queue is cleared of ended operations.
            now = self.clock.now()
            waiting[:] = [operation for operation in waiting if not operation.done(now)]
        if len(waiting) >= self.queue_limit:
            raise ApiError(
                "RESOURCE_EXHAUSTED",
                f"Too many tasks already in the queue ({self.queue_limit}). Please wait for some of them to complete.",
            )

    def _create(
        self, project: str, kind: str, request: Mapping[str, Any], behaviour: Mapping[str, Any]
    ) -> EmulatedOperation:
        description = request.get("description", "")
        rule = next((b for pattern, b in self._behaviours if fnmatchcase(description, pattern)), self.behaviour)
        name = f"projects/{project}/operations/{''.join(self._random.choices(string.ascii_uppercase + '234567', k=24))}"
        digits = self._fraction_digits[len(self.operations) % len(self._fraction_digits)]
        now = self.clock.now()
        operation = EmulatedOperation(name, kind, description, now, replace(rule, **behaviour), request, digits)
        self.operations[name] = operation
        self._waiting.setdefault(project, []).append(operation)
        return operation

    def _find(self, name: str) -> EmulatedOperation:
        if operation := self.operations.get(name):
            return operation
        if name.startswith(_LEGACY):  # The JavaScript client reads a bare id of any project here.
            operation_id = name.removeprefix(_LEGACY)
            if found := [
                one for one in self.operations.values() if one.name.partition("/operations/")[2] == operation_id
            ]:
                return found[0]
        raise ApiError("NOT_FOUND", f"Operation {name!r} not found.")


def _json(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    return request if isinstance(request, dict) else {}
