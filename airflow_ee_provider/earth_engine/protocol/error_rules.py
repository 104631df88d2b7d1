"""Reads Earth Engine's responses: JSON, or an error with a class, a rule for retries, and a sentence on what to do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from airflow_ee_provider.earth_engine.model.errors import (
    CredentialsError,
    EarthEngineError,
    FailedPreconditionError,
    InvalidRequestError,
    OperationNotFoundError,
    PermissionDeniedError,
    QueueFullError,
    QuotaExceededError,
    TransientError,
    UnimplementedError,
)
from airflow_ee_provider.earth_engine.model.operations import escaped_for_log
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse, Request, Response

#: Maximum number of characters of a server's message in an error.
LONGEST = 2000


@dataclass(frozen=True)
class Rule:
    """The error class for a status."""

    status: str
    http_status: int
    error: type[EarthEngineError]


#: Only a `TransientError` is retried.
#: The first row of an HTTP status applies to responses without a google.rpc status.
RULES = (
    Rule("INVALID_ARGUMENT", 400, InvalidRequestError),
    Rule("FAILED_PRECONDITION", 400, FailedPreconditionError),
    Rule("OUT_OF_RANGE", 400, InvalidRequestError),
    Rule("UNAUTHENTICATED", 401, CredentialsError),
    Rule("PERMISSION_DENIED", 403, PermissionDeniedError),
    Rule("NOT_FOUND", 404, OperationNotFoundError),
    Rule("DEADLINE_EXCEEDED", 408, TransientError),
    Rule("ABORTED", 409, TransientError),
    Rule("ALREADY_EXISTS", 409, InvalidRequestError),
    Rule("RESOURCE_EXHAUSTED", 429, TransientError),
    Rule("CANCELLED", 499, TransientError),
    Rule("INTERNAL", 500, TransientError),
    Rule("UNKNOWN", 500, TransientError),
    Rule("UNIMPLEMENTED", 501, UnimplementedError),
    Rule("UNAVAILABLE", 502, TransientError),
    Rule("UNAVAILABLE", 503, TransientError),
    Rule("DEADLINE_EXCEEDED", 504, TransientError),
)


@dataclass(frozen=True)
class Remedy:
    """What to do about an error, by a pattern of its message; ``error`` replaces the rule's class."""

    pattern: str
    text: str
    error: type[EarthEngineError] | None = None


#: The first row whose pattern is found in "STATUS message" applies.
REMEDIES = (
    # A full queue is transient, with any HTTP status.
    Remedy(
        r"Too many tasks already in the queue",
        "Cancel operations that are not needed, or wait until some have ended.",
        QueueFullError,
    ),
    Remedy(
        r"daily_eecu_usage_time|exceeded the custom quota",
        "The project's own quota is used up. Wait until it resets, or raise it under IAM & Admin > Quotas.",
        QuotaExceededError,
    ),
    Remedy(
        r"not registered to use Earth Engine",
        "Register the project at https://code.earthengine.google.com/register.",
    ),
    Remedy(
        r"has not been used in project|it is disabled|SERVICE_DISABLED",
        "Enable the API earthengine.googleapis.com in that project.",
    ),
    Remedy(
        r"serviceUsageConsumer|USER_PROJECT_DENIED|serviceusage\.services\.use",
        "Grant the caller roles/serviceusage.serviceUsageConsumer (serviceusage.services.use) on the quota project.",
    ),
    Remedy(
        r"earthengine\.operations\.(update|delete)|earthengine\.exports\.create",
        "Grant the caller that permission, for example with roles/earthengine.writer.",
    ),
    Remedy(
        r"^PERMISSION_DENIED",
        "Grant the caller earthengine.operations.get and .list to watch, .update to cancel, for example with "
        "roles/earthengine.writer.",
    ),
    Remedy(
        r"^UNAUTHENTICATED",
        "Check the connection's credentials: they are missing, revoked, or lack the earthengine scope.",
    ),
    Remedy(
        r"^UNIMPLEMENTED",
        "This server does not support the method. Cancel the operation at https://code.earthengine.google.com/tasks.",
    ),
    Remedy(
        r"^NOT_FOUND",
        "Check the name and its project. Earth Engine deletes operations some days after their end.",
    ),
)


def parse_response(request: Request, answer: Response | NoResponse) -> dict[str, Any] | EarthEngineError:
    """Return a response's JSON object, or the error that `RULES` and `REMEDIES` define for it."""
    if isinstance(answer, NoResponse):
        message = f"No answer from Earth Engine to {request.method}: {answer.reason.rstrip('.')}."
        return answer.error(message, subject=request.subject, remedy=answer.remedy)
    try:
        payload = json.loads(answer.body, object_hook=request.replace)
    except (ValueError, RecursionError):  # Endless nesting is treated as an incomplete response.
        payload = None
    # Only the JSON of a 400 has the reason: the operation has ended, or the queue is full.
    says_nothing = payload is None and answer.status == 400 and answer.body.lstrip().startswith(b"{")
    if not (200 <= answer.status < 300 or says_nothing):
        return _error(request, answer, payload)
    if isinstance(payload, dict):
        return payload
    return TransientError(
        f"Earth Engine's answer to {request.method} is incomplete or is not JSON: {_excerpt(answer.body)}.",
        subject=request.subject,
        http_status=answer.status,
    )


def _error(request: Request, answer: Response, payload: Any) -> EarthEngineError:
    error = payload.get("error") if isinstance(payload, dict) else None
    error = error if isinstance(error, dict) else {}
    named = error.get("status")
    rule = next((r for r in RULES if r.status == named and r.http_status == answer.status), None)
    rule = rule or next((r for r in RULES if r.http_status == answer.status), None)
    if rule is None:
        rule = Rule("", answer.status, TransientError if answer.status >= 500 else InvalidRequestError)
    # Escaped, so that the message is one line of a log.
    message = escaped_for_log(
        str(error.get("message") or f"the server answered {_excerpt(answer.body)}").strip(), LONGEST
    )
    status = named if isinstance(named, str) else rule.status
    details = error.get("details")
    details = details if isinstance(details, list) else []
    reasons = " ".join(str(detail.get("reason", "")) for detail in details if isinstance(detail, dict))
    remedy = next((r for r in REMEDIES if re.search(r.pattern, f"{status} {message} {reasons}")), None)
    kind = (remedy and remedy.error) or rule.error
    return kind(
        message,
        subject=request.subject,
        status=status,
        http_status=answer.status,
        remedy=remedy.text if remedy else "",
    )


def _excerpt(body: bytes, length: int = 200) -> str:
    """Return the readable text of an unknown body, for example a proxy's HTML page."""
    text = re.sub(
        r"<(script|style).*?</\1>|<[^>]*>",
        " ",
        body[:4000].decode("utf-8", "replace"),
        flags=re.DOTALL | re.IGNORECASE,
    )
    text = " ".join(text.split())
    return repr(text[:length]) if text else "an empty body"
