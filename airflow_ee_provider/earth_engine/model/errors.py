"""The errors of requests to Earth Engine, by what a caller can do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.results import ErrorDict

#: Each google.rpc.Code by its name in a response.
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

    :param message: What happened, with the server's own text if there is one.
    :param subject: The operation or project, for example ``projects/p/operations/ABC``.
    :param status: The google.rpc status, for example ``PERMISSION_DENIED``; empty if the server did not answer.
    :param http_status: The HTTP status code; 0 if the server did not answer.
    :param remedy: What to do next, or an empty text.
    """

    #: Whether the same request cannot succeed later, so that Airflow must not retry the task.
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
        """The google.rpc.Code; UNKNOWN (2) if the server did not answer."""
        return CODES.get(self.status, CODES["UNKNOWN"])

    def as_dict(self) -> ErrorDict:
        """Return the error as plain JSON."""
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
    """A text is not the name of an Earth Engine operation. No request was sent."""


class InvalidRequestError(EarthEngineError, ValueError):
    """Earth Engine, or a check before the request, refused the request as invalid (400)."""


class FailedPreconditionError(EarthEngineError):
    """The operation's state does not allow this, for example a cancel after its end (400 FAILED_PRECONDITION)."""


class CredentialsError(EarthEngineError):
    """Credentials or project are missing or unusable, or Earth Engine does not accept them (401)."""


class ConnectionMissingError(CredentialsError):
    """The connection does not exist, or a secrets backend is unavailable; Airflow does not report which."""

    permanent = False


class PermissionDeniedError(EarthEngineError):
    """The caller has no permission, or the project is not set up for Earth Engine (403)."""


class OperationNotFoundError(EarthEngineError):
    """Earth Engine does not know the operation (404)."""


class UnimplementedError(EarthEngineError):
    """The server does not support this method (501 UNIMPLEMENTED)."""


class TransientError(EarthEngineError):
    """All attempts failed with a transient error: an overloaded server, a broken connection, an incomplete answer."""

    permanent = False


class QueueFullError(TransientError):
    """The project's queue is full. It has room again when some operations have ended."""


class OperationTimeoutError(TransientError):
    """Operations have not ended within the time limit. They keep running."""


class QuotaExceededError(EarthEngineError):
    """A quota that does not refill soon is used up, for example the daily EECU time."""


class ComputeLimitExceededError(EarthEngineError):
    """An operation used more EECU-seconds than allowed. Its cancel was requested."""
