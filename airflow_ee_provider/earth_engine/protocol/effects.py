"""What a flow can ask for: a flow is a generator that yields one of these; a driver does it and sends the answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_ee_provider.earth_engine.model.errors import EarthEngineError, TransientError

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to Earth Engine; answered with a `Response` or `NoResponse`.

    :param path: below the API's version, for example ``projects/p/operations/ABC:cancel``; checked by its maker.
    :param subject: the operation or project that it is about, for messages.
    :param repeatable: False where the request must not be sent twice.
    :param replace: called for each JSON object of the answer while that is parsed, the inner ones first; what it
        returns takes the object's place. None to keep them.
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
    """What the server answered; header names in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NoResponse:
    """There was no answer, or only a part of one; the server may have acted all the same."""

    reason: str
    error: type[EarthEngineError] = TransientError
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds; answered with None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class MonotonicTime:
    """Answered with the seconds of a monotonic clock."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """Answered with the seconds since the epoch, by this machine's clock."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """Something for a person to read in the log; answered with None."""

    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """Something for the metrics; answered with None.

    :param name: one of `earth_engine.metrics.METRICS`, without ``earth_engine.``.
    """

    name: str
    value: float = 1


@dataclass(frozen=True, slots=True)
class ReadOperations:
    """Read operations, after so many seconds; answered with a dict of what is news: an `Operation` or its error.

    With a shared poller, the answer can come early and have only the operations that have ended.
    """

    names: tuple[OperationName, ...]
    after: float = 0.0
    #: Seconds for the reading: what cannot be read by then is missing, or a `TransientError`. None for no limit.
    within: float | None = None
    #: How many are read one by one, at most; others that no list shows are missing. None for all.
    most_gets: int | None = None


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Carry out flows side by side, as many at once as the API allows; answered with the list of their results."""

    flows: Sequence[Flow[Any]]
    #: Called with each result as it comes, one at a time.
    as_done: Callable[[Any], None] = lambda _result: None


T = TypeVar("T")
Effect = Request | Sleep | MonotonicTime | WallClock | LogMessage | Measurement | ReadOperations | SideBySide
Flow = Generator[Effect, Any, T]
