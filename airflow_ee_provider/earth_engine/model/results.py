"""What operations and cancels look like as plain JSON: the same in XComs, events, and a hook's ``as_dict()``."""

from __future__ import annotations

from typing import TypedDict


class ErrorDict(TypedDict):
    """What is wrong, be it Earth Engine's own error of an operation, or why it could not be cancelled."""

    #: google.rpc.Code: 1 for cancelled, 3 for a bad request, 7 for no permission; 2 where no server answered.
    code: int
    message: str


class OperationDict(TypedDict):
    """An operation. Times are ISO 8601 in UTC; None stands for what has not happened, or is not known."""

    #: ``projects/PROJECT/operations/ID``
    name: str
    #: PENDING, RUNNING, CANCELLING, SUCCEEDED, CANCELLED or FAILED; STATE_UNSPECIFIED if it could not be read yet.
    state: str
    done: bool
    #: Of one that has failed or was cancelled.
    error: ErrorDict | None
    description: str
    #: Such as EXPORT_IMAGE.
    type: str
    #: Where its results are: addresses that a person can open.
    destination_uris: list[str]
    #: EECU-seconds that it has used.
    batch_eecu_usage_seconds: float | None
    #: How often Earth Engine itself has tried it.
    attempt: int | None
    create_time: str | None
    start_time: str | None
    end_time: str | None
    #: Seconds from its start to its end.
    duration_seconds: float | None


class CancelDict(TypedDict):
    """What became of an operation that was to be cancelled."""

    #: ``projects/PROJECT/operations/ID``
    name: str
    description: str
    #: Why it was to be cancelled, where the janitor has found it; empty elsewhere.
    reason: str
    #: A `CancelOutcome`: CANCELLED, ALREADY_FINISHED, FINISHED_DESPITE_CANCEL, NOT_FOUND, STILL_CANCELLING, ERROR, or,
    #: of a janitor's dry run, WOULD_BE_CANCELLED.
    outcome: str
    #: What Earth Engine said last, as in `OperationDict`; None if it said nothing.
    state: str | None
    #: What stood in the way; None if nothing did.
    error: ErrorDict | None
    #: Whether trying again cannot change the error.
    permanent: bool
