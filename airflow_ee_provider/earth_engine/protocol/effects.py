"""What a flow can yield. A flow is a generator of effects; a driver carries out each and sends the result back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to Earth Engine; the result is a `Response` or `NoResponse`.

    :param path: The path below the API's version, such as ``projects/p/operations/ABC:cancel``, already checked.
    :param subject: The operation or project of the request, for messages.
    :param repeatable: False if the request must not be sent twice.
    :param replace: Called for each JSON object of the response while it is parsed, the inner ones first. The returned
        value replaces the object. None to keep all objects.
    """

    method: str
    path: str
    subject: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    repeatable: bool = True
    replace: Callable[[dict[str, Any]], Any] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the server. Header names are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoResponse:
    """There was no response, or only a part of one. The server may have carried out the request all the same."""

    reason: str
    error: type[EarthEngineError] = TransientError
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait; the result is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class MonotonicTime:
    """Read a monotonic clock; the result is in seconds."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """Read this machine's clock; the result is in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """Write a message to the log; the result is None."""

    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """Record a measurement for the metrics; the result is None.

    :param name: One of `earth_engine.model.metrics.METRICS`, without ``earth_engine.``.
    """

    name: str
    value: float = 1


@dataclass(frozen=True, slots=True)
class ReadOperations:
    """Read operations, after ``after`` seconds; the result is a dict with an `Operation` or an error for each one read.

    With a shared poller, the result can come early and contain only the operations that have ended.
    """

    names: tuple[OperationName, ...]
    after: float = 0.0
    #: Seconds for reading; operations that cannot be read by then are missing or a `TransientError`. None for no limit.
    within: float | None = None
    #: How many operations of a project are read one by one; others that no list shows are missing. None for all.
    most_gets: int | None = None


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Run flows side by side, as many at once as the API allows; the result is the list of their results."""

    flows: Sequence[Flow[Any]]
    #: Called with each result as soon as it is known, one call at a time.
    as_done: Callable[[Any], None] = lambda _result: None


T = TypeVar("T")
Effect = Request | Sleep | MonotonicTime | WallClock | LogMessage | Measurement | ReadOperations | SideBySide
Flow = Generator[Effect, Any, T]
