"""What can go wrong between us and Earth Engine, by what a caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.results import ErrorDict

#: google.rpc.Code, by the name that an answer has of it.
CODES = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}


class EarthEngineError(Exception):
    """Base of all errors of this package: what happened, to which operation, and what to do next.

    :param message: what happened, with the server's own words where there are any.
    :param subject: the operation or project that it happened to, for example ``projects/p/operations/ABC``.
    :param status: the google.rpc status, for example ``PERMISSION_DENIED``; empty where no server answered.
    :param http_status: the HTTP status code; 0 where no server answered.
    :param remedy: what to do next; empty where there is nothing to say.
    """

    #: True where doing the same again cannot help, so that an Airflow task must not be retried.
    permanent = True

    def __init__(
        self, message: str, *, subject: str = "", status: str = "", http_status: int = 0, remedy: str = ""
    ) -> None:
        self.message = message
        self.subject = subject
        self.status = status
        self.http_status = http_status
        self.remedy = remedy
        super().__init__(str(self))

    @property
    def code(self) -> int:
        """google.rpc.Code; UNKNOWN (2) where no server answered."""
        return CODES.get(self.status, CODES["UNKNOWN"])

    def as_dict(self) -> ErrorDict:
        """Return it as plain JSON."""
        return {"code": self.code, "message": str(self)}

    def __str__(self) -> str:
        kind = " ".join(str(part) for part in (self.http_status, self.status) if part)
        parts = [
            f"{self.subject}: " if self.subject else "",
            self.message,
            f" [{kind}]" if kind else "",
            f" {self.remedy}" if self.remedy else "",
        ]
        return "".join(parts)


class InvalidOperationNameError(EarthEngineError, ValueError):
    """A text is not the name of an Earth Engine operation; nothing was sent."""


class InvalidRequestError(EarthEngineError, ValueError):
    """Earth Engine, or a check before anything was sent, refused the request as malformed (400)."""


class FailedPreconditionError(EarthEngineError):
    """The operation is not in a state in which this can be done (400 FAILED_PRECONDITION)."""


class CredentialsError(EarthEngineError):
    """There are no usable credentials, or no project, or Earth Engine does not accept them (401)."""


class ConnectionMissingError(CredentialsError):
    """Airflow knows no such connection, or could not ask whoever keeps it: the two cannot be told apart."""

    permanent = False


class PermissionDeniedError(EarthEngineError):
    """The caller may not do this, or the project is not set up for Earth Engine (403)."""


class OperationNotFoundError(EarthEngineError):
    """Earth Engine knows no such operation (404)."""


class UnimplementedError(EarthEngineError):
    """The server does not support this method (501 UNIMPLEMENTED)."""


class TransientError(EarthEngineError):
    """Every attempt met a fault that passes: an overloaded server, a broken connection, a half answer."""

    permanent = False


class QueueFullError(TransientError):
    """As many operations as can wait in the project's queue do: there is room when some of them have ended."""


class OperationTimeoutError(TransientError):
    """Operations have not ended in the time that there was for them; they run on."""


class QuotaExceededError(EarthEngineError):
    """A quota that does not refill while we wait is used up, for example the daily EECU-time."""


class ComputeLimitExceededError(EarthEngineError):
    """An operation has used more EECU-seconds than it was allowed, and was asked to cancel."""
