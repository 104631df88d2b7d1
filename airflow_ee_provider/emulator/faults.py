"""Faults for tests: the errors of the real service, and broken responses."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class ApiError(Exception):
    """An error that the emulator returns as a google.rpc.Status."""

    def __init__(self, status: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason

    @property
    def http_status(self) -> int:
        """The response's HTTP status code."""
        return HTTP_STATUS[self.status]

    def as_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        error: dict[str, Any] = {"code": self.http_status, "message": self.message, "status": self.status}
        if self.reason:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.reason}]
        return {"error": error}


#: Errors of the real service, by their names for tests.
ERRORS = {
    "not_registered": ApiError(
        "PERMISSION_DENIED",
        "Project earth-demo is not registered to use Earth Engine. Visit "
        "https://code.earthengine.google.com/register?project=earth-demo to register your project.",
    ),
    "api_disabled": ApiError(
        "PERMISSION_DENIED",
        "Google Earth Engine API has not been used in project 123456789 before or it is disabled. Enable it by "
        "visiting https://console.developers.google.com/apis/api/earthengine.googleapis.com/overview?project=123456789 "
        "then retry.",
        "SERVICE_DISABLED",
    ),
    "quota_project_denied": ApiError(
        "PERMISSION_DENIED",
        "Caller does not have required permission to use project earth-demo. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use permission.",
        "USER_PROJECT_DENIED",
    ),
    "permission_denied": ApiError(
        "PERMISSION_DENIED",
        "Permission 'earthengine.operations.update' denied on resource 'projects/earth-demo' (or it may not exist).",
        "IAM_PERMISSION_DENIED",
    ),
    "eecu_quota": ApiError(
        "RESOURCE_EXHAUSTED",
        "Your usage exceeded the custom quota for 'earthengine.googleapis.com/daily_eecu_usage_time' set by your "
        "administrator.",
    ),
    "unauthenticated": ApiError(
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential.",
    ),
    "queue_full": ApiError(  # Google does not document its status, so the client must not depend on it.
        "INVALID_ARGUMENT",
        "Too many tasks already in the queue (3000). Please wait for some of them to complete.",
    ),
    "too_many_requests": ApiError("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Number of requests'."),
    "unavailable": ApiError("UNAVAILABLE", "The service is currently unavailable."),
    "internal": ApiError("INTERNAL", "Internal error encountered."),
    "timed_out": ApiError("DEADLINE_EXCEEDED", "Deadline exceeded."),
    "unimplemented": ApiError("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
}

#: How a response can be broken: the connection is reset before or after the service acted; the response is late or
#: cannot be read; or the page of a list contains its operations twice, or none, or has itself as the next page.
BROKEN_RESPONSES = (
    "reset",
    "reset_after",
    "delay",
    "truncated",
    "empty",
    "html",
    "not_an_object",
    "wrong_types",
    "repeated_page",
    "duplicated",
    "dropped",
)

#: An Operation whose fields have wrong types.
MALFORMED_OPERATION = {
    "name": ["x"],
    "metadata": 7,
    "done": "yes",
    "operations": [None, 7, {"name": {}}],
    "nextPageToken": 7,
}


@dataclass
class Fault:
    """An error or a broken response for the requests that match.

    :param what: A name in `ERRORS`, or one of `BROKEN_RESPONSES`.
    :param times: How many requests get the fault; None for all.
    :param method: The request's HTTP method, or ``*`` for all.
    :param path: The request's path without the version, as a glob: ``projects/earth-demo/operations/*:cancel``.
    :param headers: Headers to add to the response, for example ``{"Retry-After": "2"}``.
    :param seconds: How long a ``delay`` takes, in seconds.
    :param probability: The probability, from 0 to 1, that a matching request gets the fault.
    :raises TypeError: If a string parameter is not a string of one line.
    :raises ValueError: If another parameter has a value that is not allowed.
    """

    what: str
    times: int | None = 1
    method: str = "*"
    path: str = "*"
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.what not in ERRORS and self.what not in BROKEN_RESPONSES:
            raise ValueError(f"what is {self.what!r} and has to be one of {', '.join([*ERRORS, *BROKEN_RESPONSES])}.")
        texts = (self.method, self.path, *self.headers, *self.headers.values())
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise TypeError("method, path, and the names and values of headers have to be strings of one line.")
        for name, value in (("times", self.times or 0), ("seconds", self.seconds), ("probability", self.probability)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise ValueError(f"{name} is {value!r} and has to be a number from 0.")

    def meets(self, method: str, path: str) -> bool:
        """Whether this request gets the fault. If so, it counts towards ``times``."""
        if self.times == 0 or self.method not in ("*", method) or not fnmatchcase(path, self.path):
            return False
        if random.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True
