"""Earth Engine operations: parsed once, frozen, typed.

Follows https://developers.google.com/earth-engine/reference/rest/Shared.Types/ListOperationsResponse#Operation
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from airflow_ee_provider.earth_engine.errors import InvalidOperationNameError

#: google.rpc.Code.CANCELLED, which a cancelled operation carries as ``error.code``.
CANCELLED_CODE = 1

# The project may be legacy domain-scoped ("example.com:project"). What is not listed here never gets into a URL.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*[a-z0-9]:)?[A-Za-z0-9][A-Za-z0-9_-]*"
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_NAME = re.compile(rf"projects/(?P<project>{_PROJECT})/operations/(?P<id>{_SEGMENT}(?:/{_SEGMENT})*)")
_BARE_ID = re.compile(_SEGMENT)
_PROJECT_ID = re.compile(_PROJECT)
_STATE = re.compile(r"[A-Za-z][A-Za-z_]{0,63}")
_FRACTION = re.compile(r"\.(\d+)")


def check_project(project: str) -> str:
    """Return ``project`` if it can be a Cloud project's id or number.

    :raises InvalidOperationNameError: if it cannot, so that it never becomes part of a URL.
    """
    if isinstance(project, str) and _PROJECT_ID.fullmatch(project):
        return project
    raise InvalidOperationNameError(f"{project!r} is not a Cloud project id.", remedy="Give an id such as my-project.")


@dataclass(frozen=True, order=True, slots=True)
class OperationName:
    """The name of an operation, ``projects/{project}/operations/{id}``; safe to be put in a URL's path."""

    project: str
    id: str

    @classmethod
    def parse(cls, text: str | OperationName, project: str | None = None) -> OperationName:
        """Parse a full name, or a bare id together with a project.

        :param text: ``projects/my-project/operations/ABC`` or ``ABC``.
        :param project: the project of a bare id; a full name keeps its own.
        :raises InvalidOperationNameError: for anything else; the error shows the input.
        """
        if isinstance(text, cls):
            return text
        if isinstance(text, str):
            if match := _NAME.fullmatch(text):
                return cls(match["project"], match["id"])
            if _BARE_ID.fullmatch(text):
                if project:
                    return cls(check_project(project), text)
                raise InvalidOperationNameError(
                    f"{text!r} is an operation's id without its project.",
                    remedy="Give the full name, projects/PROJECT/operations/ID, or set project_id.",
                )
        raise InvalidOperationNameError(
            f"{text!r} is not the name of an Earth Engine operation.",
            remedy="Expected projects/PROJECT/operations/ID, or an ID together with a project.",
        )

    @classmethod
    def parse_all(cls, texts: Any, project: str | None = None) -> list[OperationName]:
        """Parse one name, several, or none; ``None`` and empty texts are left out, repeated names kept once.

        A rendered template or an XCom gives any nesting of texts and lists, or a list that Jinja turned into a text:
        JSON, Python's own, or words with commas or blanks between. An operation as plain JSON stands for its name.
        ``None``, and what templates make of it (``null``, ``nan``, ``undefined``), stands for an upstream task that
        started nothing.

        :raises InvalidOperationNameError: if any of them is not a name.
        """
        return list(dict.fromkeys(cls.parse(text, project) for text in _flatten(texts)))

    def __str__(self) -> str:
        return f"projects/{self.project}/operations/{self.id}"


#: What templates make of "nothing", in any case: Jinja, JSON, pandas, JavaScript.
_NOTHING = frozenset({"", "none", "null", "nan", "undefined"})

#: Texts longer than that are not parsed as lists: nobody's names are, and a parser may choke on them.
_LONGEST_LIST = 1_000_000


def _flatten(texts: Any) -> Iterable[Any]:
    if isinstance(texts, str):
        texts = _parsed(texts.strip())
    if texts is None or (isinstance(texts, float) and math.isnan(texts)):
        return
    if isinstance(texts, Mapping):  # An operation as plain JSON, what a task has recorded, or `task.status()`.
        texts = next((texts[key] for key in ("operation_names", "name", "id") if key in texts), texts)
    # A text is itself a sequence; anything that is neither is left to the parser, which refuses it.
    if isinstance(texts, (str, Mapping, OperationName)) or not isinstance(texts, Iterable):
        yield texts
        return
    for text in texts:
        yield from _flatten(text)


def _parsed(text: str) -> Any:
    """Read what a template may have made of a list, a tuple, an object: JSON, Python's own words, or words."""
    if text.lower() in _NOTHING:
        return None
    if text[0] in "[({" and len(text) <= _LONGEST_LIST:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                return parse(text)
        return text
    words = re.split(r"[\s,]+", text)
    return [word for word in words if word] if len(words) > 1 else text


class OperationState(str, Enum):
    """``metadata.state``; one that this version does not know keeps its word, and counts as running."""

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
    """One of the stages that an operation goes through."""

    display_name: str
    complete_work_units: float
    total_work_units: float
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running operation as Earth Engine describes it; times are aware, absent fields None or empty."""

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
        """Read an Operation from the API's JSON; a field that is absent or odd never costs the operation.

        :param name: its name, where that is parsed already.
        :raises InvalidOperationNameError: if ``name`` is missing or is not an operation's name.
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
            stages=tuple(_stage(_mapping(stage)) for stage in _list(metadata.get("stages"))),
            script_uri=_text(metadata.get("scriptUri")),
            destination_uris=tuple(_text(uri) for uri in _list(metadata.get("destinationUris"))),
            notifications=tuple(_mapping(note) for note in _list(metadata.get("notifications"))),
            batch_eecu_usage_seconds=_number(metadata.get("batchEecuUsageSeconds")),
        )

    @property
    def succeeded(self) -> bool:
        """Whether it has ended, and well."""
        return self.done and self.state is OperationState.SUCCEEDED

    @property
    def duration(self) -> float | None:
        """Seconds from its start to its end; None before that."""
        if self.start_time is None or self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds()

    @property
    def cancelled(self) -> bool:
        """Whether Earth Engine says that it was cancelled; only that counts as cancelled."""
        return self.done and self.state is OperationState.CANCELLED

    @property
    def label(self) -> str:
        """What a person calls it: its name, and its description where it has one."""
        return label(self.name, self.description)

    def describe(self) -> str:
        """Say in one line, for a person, how far it is: ``RUNNING, 42 %, Write files 1/4, 12.5 EECU-seconds``."""
        parts = [self.state.value]
        if self.progress is not None and not self.done:
            parts.append(f"{self.progress:.0%}".replace("%", " %"))
        if self.stages and not self.done:
            unfinished = (s for s in self.stages if s.complete_work_units < s.total_work_units)
            stage = next(unfinished, self.stages[-1])
            parts.append(f"{stage.display_name} {stage.complete_work_units:g}/{stage.total_work_units:g}".strip())
        if (self.attempt or 1) > 1:
            parts.append(f"attempt {self.attempt}")
        if self.batch_eecu_usage_seconds:
            parts.append(f"{self.batch_eecu_usage_seconds:g} EECU-seconds")
        if self.error and not self.cancelled:
            parts.append(f"error {self.error.code}: {printable(self.error.message, 1000)}")
        return ", ".join(parts)

    @property
    def milestone(self) -> tuple[Any, ...]:
        """What is worth a line in the log when it changes: state, per cent, stage, attempt, each doubled EECU-use."""
        stages = sum(stage.complete_work_units >= stage.total_work_units for stage in self.stages)
        doublings = int(self.batch_eecu_usage_seconds or 0).bit_length()
        return self.state, self.done, f"{self.progress or 0.0:.0%}", stages, self.attempt, doublings

    def as_dict(self) -> dict[str, Any]:
        """Return the operation as plain JSON, for XComs and logs; times in ISO 8601."""
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
            "duration": self.duration,
        }


def label(name: OperationName | str, description: str) -> str:
    """Return a name for a person to read, with the description where there is one; both on one line."""
    return f"{name} ({printable(description)})" if description else str(name)


def printable(text: str, most: int = 200) -> str:
    """Return a text from outside as one line of a log: no line break, no escape code, no more than that many signs."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text[:most])
    return shown + ("…" if len(text) > most else "")


def all_done(names: Sequence[OperationName], found: Sequence[Operation]) -> bool:
    """Whether each of the operations was read, and has ended."""
    read = {operation.name for operation in found if operation.done}
    return all(name in read for name in names)


def _state(reported: OperationState, *, done: bool, error: OperationError | None) -> OperationState:
    """``done`` and ``error`` decide; ``metadata.state`` can lag behind them or be one that we do not know."""
    if not done:
        return reported
    if error is None:
        return OperationState.SUCCEEDED
    if error.code == CANCELLED_CODE or reported is OperationState.CANCELLED:
        return OperationState.CANCELLED
    return OperationState.FAILED


def parse_timestamp(text: Any) -> datetime | None:
    """Parse an RFC 3339 timestamp with any number of fractional digits; None for none and for 1970.

    Earth Engine gives ``1970-01-01T00:00:00Z`` for what has not happened yet.
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


def _stage(value: Mapping[str, Any]) -> Stage:
    return Stage(
        display_name=_text(value.get("displayName")),
        complete_work_units=_number(value.get("completeWorkUnits")) or 0.0,
        total_work_units=_number(value.get("totalWorkUnits")) or 0.0,
        description=_text(value.get("description")),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Read a number; the API writes an int64 as a text."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    # Infinity and NaN are numbers to Python's JSON, but not to what we do with them.
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None else None


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
