"""Operations and outcomes of cancels as plain JSON, for XComs and events; and which failures are transient."""

from __future__ import annotations

import re
from typing import TypedDict


class ErrorDict(TypedDict):
    """The error of a failed operation, or the reason why a cancel failed."""

    #: The google.rpc.Code: 1 cancelled, 3 invalid request, 7 permission denied; 2 without an answer from the server.
    code: int
    #: A sentence, with Earth Engine's own text.
    message: str


class OperationDict(TypedDict):
    """An operation. Times are texts in ISO 8601, in UTC; they are None if they are not known yet."""

    #: ``projects/PROJECT/operations/ID``.
    name: str
    #: PENDING, RUNNING, CANCELLING, SUCCEEDED, CANCELLED or FAILED; STATE_UNSPECIFIED if it could not be read yet.
    state: str
    #: Whether the operation has ended.
    done: bool
    #: The error of an operation that failed or was cancelled; otherwise None.
    error: ErrorDict | None
    #: The description that its author gave it.
    description: str
    #: For example ``EXPORT_IMAGE``.
    type: str
    #: The addresses of its results, which open in a browser.
    destination_uris: list[str]
    #: The EECU-seconds that it has used.
    batch_eecu_usage_seconds: float | None
    #: How often Earth Engine has started to process it.
    attempt: int | None
    #: When Earth Engine accepted it.
    create_time: str | None
    #: When Earth Engine started to process it.
    start_time: str | None
    #: When it ended.
    end_time: str | None
    #: Seconds from ``start_time`` to ``end_time``.
    duration_seconds: float | None


class CancelDict(TypedDict):
    """The outcome of a cancel."""

    #: ``projects/PROJECT/operations/ID``.
    name: str
    #: The operation's description, if it was read.
    description: str
    #: Why the stale-operations operator selected it; empty for other cancels.
    reason: str
    #: A `CancelOutcome`; see *Outcomes of a cancel*.
    outcome: str
    #: The last state that Earth Engine returned, as in `OperationDict`; None without an answer.
    state: str | None
    #: The error of the cancel; None if there was none.
    error: ErrorDict | None
    #: Whether a retry cannot succeed.
    permanent: bool


#: google.rpc.Code: ABORTED, INTERNAL, UNAVAILABLE.
_PASSING_CODES = frozenset({10, 13, 14})

#: Messages about Earth Engine itself, with any code.
_PASSING = re.compile(r"internal error|timed out|deadline exceeded|unavailable|too many tasks|try again", re.IGNORECASE)

#: Messages about the request, with any code: the same request would fail again.
_LASTING = re.compile(
    r"memory limit|too large|too many (pixels|features)|not found|permission|invalid|no band|unable to", re.IGNORECASE
)


def is_transient(error: ErrorDict) -> bool:
    """Whether an operation that has failed with this error may succeed if it is started again."""
    if _LASTING.search(error["message"]):
        return False
    return error["code"] in _PASSING_CODES or bool(_PASSING.search(error["message"]))
