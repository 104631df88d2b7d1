"""Earth Engine operations, as typed and immutable objects.

Follows https://developers.google.com/earth-engine/reference/rest/Shared.Types/ListOperationsResponse#Operation
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_ee_provider.earth_engine.model.operation_names import OperationName

if TYPE_CHECKING:
    from airflow_ee_provider.earth_engine.model.results import OperationDict

#: The most characters of a text, and items of a list, that are kept of a response, since XComs and browsers get them.
LONGEST_TEXT, MOST_ITEMS = 10_000, 1_000

#: google.rpc.Code.CANCELLED, which a cancelled operation carries as ``error.code``.
CANCELLED_CODE = 1

_STATE = re.compile(r"[A-Za-z][A-Za-z_]{0,63}")
_FRACTION = re.compile(r"\.(\d+)")


class OperationState(str, Enum):
    """``metadata.state``. A state that this version does not know keeps its name, and counts as running."""

    STATE_UNSPECIFIED = "STATE_UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @classmethod
    def _missing_(cls, value: object) -> OperationState:
        if not (isinstance(value, str) and _STATE.fullmatch(value)):
            return cls.STATE_UNSPECIFIED
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown


@dataclass(frozen=True, slots=True)
class OperationError:
    """``error`` of an operation that ended without success (a google.rpc.Status)."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One of an operation's stages."""

    display_name: str
    complete_work_units: float
    total_work_units: float
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running operation as Earth Engine returns it. Times have a time zone; absent fields are None or empty."""

    name: OperationName
    state: OperationState
    done: bool
    error: OperationError | None = None
    response: Mapping[str, Any] | None = None
    description: str = ""
    type: str = ""
    priority: int | None = None
    attempt: int | None = None
    progress: float | None = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    stages: tuple[Stage, ...] = ()
    script_uri: str = ""
    destination_uris: tuple[str, ...] = ()
    notifications: tuple[Mapping[str, Any], ...] = ()
    batch_eecu_usage_seconds: float | None = None

    @classmethod
    def from_api(cls, payload: Mapping[str, Any], name: OperationName | None = None) -> Operation:
        """Read an operation from the API's JSON. An absent or invalid field is no error, except for ``name``.

        :param name: The operation's name, if it is parsed already.
        :raises InvalidOperationNameError: If ``name`` is missing or is not an operation's name.
        """
        metadata = _mapping(payload.get("metadata"))
        done = payload.get("done") is True
        error = _error(payload["error"]) if done and payload.get("error") else None
        return cls(
            name=name or OperationName.parse(payload.get("name", "")),
            state=_state(OperationState(metadata.get("state")), done=done, error=error),
            done=done,
            error=error,
            response=_mapping(payload["response"]) if payload.get("response") else None,
            description=_text(metadata.get("description")),
            type=_text(metadata.get("type")),
            priority=_integer(metadata.get("priority")),
            attempt=_integer(metadata.get("attempt")),
            progress=_number(metadata.get("progress")),
            create_time=parse_timestamp(metadata.get("createTime")),
            update_time=parse_timestamp(metadata.get("updateTime")),
            start_time=parse_timestamp(metadata.get("startTime")),
            end_time=parse_timestamp(metadata.get("endTime")),
            stages=_shared_stages(tuple(_stage(_mapping(stage)) for stage in _list(metadata.get("stages")))),
            script_uri=_text(metadata.get("scriptUri")),
            destination_uris=tuple(_text(uri) for uri in _list(metadata.get("destinationUris"))),
            notifications=tuple(_mapping(note) for note in _list(metadata.get("notifications"))),
            batch_eecu_usage_seconds=_number(metadata.get("batchEecuUsageSeconds")),
        )

    @classmethod
    def unread(cls, name: OperationName) -> Operation:
        """Return a placeholder for an operation that was started and could not be read yet."""
        return cls(name, OperationState.STATE_UNSPECIFIED, done=False)

    @property
    def succeeded(self) -> bool:
        """Whether the operation has ended with success."""
        return self.done and self.state is OperationState.SUCCEEDED

    @property
    def failed(self) -> bool:
        """Whether the operation has ended without success. A cancelled operation counts as failed."""
        return self.done and not self.succeeded

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from the operation's start to its end; None before its end."""
        if self.start_time is None or self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds()

    @property
    def cancelled(self) -> bool:
        """Whether Earth Engine reports that the operation was cancelled."""
        return self.done and self.state is OperationState.CANCELLED

    @property
    def label(self) -> str:
        """The operation's name, with its description if it has one, for the log."""
        return label(self.name, self.description)

    def describe(self) -> str:
        """Return the operation's progress as one line: ``RUNNING, 42 %, Write files 1/4, 12.5 EECU-seconds``."""
        return ", ".join([self.state.value, *self._per_cent(), *self._details()])

    @property
    def log_line(self) -> str:
        """A line for the log, the state first: ``RUNNING 42 %: ndvi (projects/…/operations/…), Write files 1/4``."""
        state = " ".join([self.state.value, *self._per_cent()])
        return ", ".join([f"{state}: {label(self.name, self.description, is_name_first=False)}", *self._details()])

    def _per_cent(self) -> list[str]:
        return [] if self.progress is None or self.done else [f"{self.progress:.0%}".replace("%", " %")]

    def _details(self) -> list[str]:
        parts = []
        if self.stages and not self.done:
            unfinished = (s for s in self.stages if s.complete_work_units < s.total_work_units)
            stage = next(unfinished, self.stages[-1])
            done = f"{stage.complete_work_units:g}/{stage.total_work_units:g}"
            parts.append(f"{escaped_for_log(stage.display_name)} {done}".strip())
        if (self.attempt or 1) > 1:
            parts.append(f"attempt {self.attempt}")
        if self.batch_eecu_usage_seconds:
            parts.append(f"{self.batch_eecu_usage_seconds:g} EECU-seconds")
        if self.error and not self.cancelled:
            parts.append(f"error {self.error.code}: {escaped_for_log(self.error.message, 1000)}")
        return parts

    @property
    def progress_key(self) -> tuple[Any, ...]:
        """If it changes, the log gets a line: state, tenth of progress, stages done, attempt, doublings of EECU use."""
        stages = sum(stage.complete_work_units >= stage.total_work_units for stage in self.stages)
        doublings = int(self.batch_eecu_usage_seconds or 0).bit_length()
        return self.state, self.done, int((self.progress or 0.0) * 10), stages, self.attempt, doublings

    def as_dict(self) -> OperationDict:
        """Return the operation as plain JSON, for XComs and events."""
        return {
            "name": str(self.name),
            "state": self.state.value,
            "done": self.done,
            "error": {"code": self.error.code, "message": self.error.message} if self.error else None,
            "description": self.description,
            "type": self.type,
            "destination_uris": list(self.destination_uris),
            "batch_eecu_usage_seconds": self.batch_eecu_usage_seconds,
            "attempt": self.attempt,
            "create_time": _iso(self.create_time),
            "start_time": _iso(self.start_time),
            "end_time": _iso(self.end_time),
            "duration_seconds": self.duration_seconds,
        }


def label(name: OperationName | str, description: str, *, is_name_first: bool = True) -> str:
    """Return an operation's name, with its description if there is one, on one line."""
    if not description:
        return str(name)
    return f"{name} ({escaped_for_log(description)})" if is_name_first else f"{escaped_for_log(description)} ({name})"


def escaped_for_log(text: str, most: int = 200) -> str:
    """Return the first ``most`` characters of a text from outside, without line breaks and escape codes."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text[:most])
    return shown + ("…" if len(text) > most else "")


def _state(reported: OperationState, *, done: bool, error: OperationError | None) -> OperationState:
    """Return the state by ``done`` and ``error``: ``metadata.state`` can lag behind them, or be unknown."""
    if not done:
        return reported
    if error is None:
        return OperationState.SUCCEEDED
    if error.code == CANCELLED_CODE or reported is OperationState.CANCELLED:
        return OperationState.CANCELLED
    return OperationState.FAILED


def parse_timestamp(text: Any) -> datetime | None:
    """Parse an RFC 3339 timestamp with any number of fractional digits; return None for any other value.

    Also return None for ``1970-01-01T00:00:00Z``: Earth Engine uses it for an event that has not happened yet.
    """
    if not isinstance(text, str):
        return None
    micros = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", text)
    try:
        time = datetime.fromisoformat(micros.upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return time if time.timestamp() > 0 else None


def _error(value: Any) -> OperationError:
    status = _mapping(value)
    return OperationError(_integer(status.get("code")) or 0, _text(status.get("message")) or "no message given")


#: Cached, since thousands of operations have the same few stages.
_shared_stage = lru_cache(maxsize=1000)(Stage)
_shared_stages: Callable[[tuple[Stage, ...]], tuple[Stage, ...]] = lru_cache(maxsize=1000)(tuple)


def _stage(value: Mapping[str, Any]) -> Stage:
    return _shared_stage(
        _text(value.get("displayName")),
        _number(value.get("completeWorkUnits")) or 0.0,
        _number(value.get("totalWorkUnits")) or 0.0,
        _text(value.get("description")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value[:MOST_ITEMS] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Read a number. The API writes an int64 as a text."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    # Python's JSON parser accepts infinity, NaN, and numbers so large that a product of them is infinite.
    return number if abs(number) < 1e100 and not isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None else None


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
