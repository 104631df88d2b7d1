"""Emulated operations. An operation's state at any time is computed from its behaviour and the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

#: The number of digits after the second in timestamps, which varies from operation to operation as in the real service.
#: The API allows nine as well, but the official client can read only six.
FRACTION_DIGITS = (6, 3, 0)

TYPES = {
    "image": "EXPORT_IMAGE",
    "table": "EXPORT_FEATURES",
    "video": "EXPORT_VIDEO",
    "videoMap": "EXPORT_VIDEO_MAP",
    "map": "EXPORT_TILES",
    "classifier": "EXPORT_CLASSIFIER",
    "image:import": "INGEST_IMAGE",
    "table:import": "INGEST_TABLE",
}


_CENTURY = 100 * 365 * 86400.0


class Clock:
    """The machine's time, which a test can set forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Set the clock forward.

        :param seconds: By how many seconds.
        :raises ValueError: If the clock would differ from the machine's by a century or more.
        """
        if not abs(self._ahead + seconds) < _CENTURY:
            raise ValueError(f"seconds is {seconds!r}: the clock can differ by less than a century from the machine's.")
        self._ahead += seconds


@dataclass(frozen=True)
class Behaviour:
    """How an operation runs, and how it reacts to a cancel.

    :param pending_seconds: Seconds that the operation is PENDING.
    :param run_seconds: Seconds that it is RUNNING.
    :param cancel_seconds: Seconds that it is CANCELLING. If the operation ends within that time, it is not cancelled.
    :param outcome: The final state: ``SUCCEEDED`` or ``FAILED``.
    :param ignores_cancel: If True, a cancelled operation succeeds after ``cancel_seconds``.
    :param message: The error message of a failed operation.
    :param eecu_seconds: EECU-seconds used in each second of running.
    :param attempt: The number of Earth Engine's attempt, from 1.
    :raises TypeError: If ``message`` is not a string.
    :raises ValueError: If another parameter has a value that is not allowed.
    """

    pending_seconds: float = 2.0
    run_seconds: float = 60.0
    cancel_seconds: float = 2.0
    outcome: str = "SUCCEEDED"
    ignores_cancel: bool = False
    message: str = "User memory limit exceeded."
    eecu_seconds: float = 1.5
    attempt: int = 1

    def __post_init__(self) -> None:
        """Refuse values that would lead to an invalid response."""
        for name in ("pending_seconds", "run_seconds", "cancel_seconds", "eecu_seconds", "attempt"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _CENTURY:
                raise ValueError(f"{name} is {value!r} and has to be a number from 0.")
        if self.outcome not in ("SUCCEEDED", "FAILED"):
            raise ValueError(f"outcome is {self.outcome!r} and has to be SUCCEEDED or FAILED.")
        if not isinstance(self.message, str):
            raise TypeError(f"message is {self.message!r} and has to be a string.")


@dataclass
class EmulatedOperation:
    """One operation; ``created`` is in seconds since the epoch."""

    name: str
    kind: str
    description: str
    created: float
    behaviour: Behaviour
    request: Mapping[str, Any] = field(default_factory=dict)
    fraction_digits: int = 6
    cancel_requested: float | None = None
    #: How often it was read, alone or in a list.
    reads: int = 0

    @property
    def started(self) -> float:
        """When it starts to run, in seconds since the epoch, if it is not cancelled before."""
        return self.created + self.behaviour.pending_seconds

    def ended(self) -> float:
        """Return when it ends, in seconds since the epoch, if no further cancel is requested."""
        end = self.started + self.behaviour.run_seconds
        return end if self.cancel_requested is None else min(end, self._cancelled_at())

    def _cancelled_at(self) -> float:
        return (self.cancel_requested or 0.0) + self.behaviour.cancel_seconds

    def state(self, now: float) -> str:
        """Return ``metadata.state`` at a time."""
        if now >= self.ended():
            cancelled = self.cancel_requested is not None and self.ended() == self._cancelled_at()
            if cancelled:
                return "SUCCEEDED" if self.behaviour.ignores_cancel else "CANCELLED"
            return self.behaviour.outcome
        if self.cancel_requested is not None:
            return "CANCELLING"
        return "RUNNING" if now >= self.started else "PENDING"

    def done(self, now: float) -> bool:
        """Whether it has ended."""
        return now >= self.ended()

    def as_json(self, now: float) -> dict[str, Any]:
        """Return the API's JSON for the operation, with the real API's irregularities."""
        state = self.state(now)
        payload: dict[str, Any] = {"name": self.name, "metadata": self._metadata(now, state)}
        if self.done(now):
            payload["done"] = True  # Absent while it runs.
            if state == "CANCELLED":
                payload["error"] = {"code": 1, "message": "Cancelled."}
            elif state == "FAILED":
                payload["error"] = {"code": 3, "message": self.behaviour.message}
            else:
                payload["response"] = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return payload

    def _metadata(self, now: float, state: str) -> dict[str, Any]:
        end = min(now, self.ended())
        has_started = end >= self.started
        ran = max(0.0, end - self.started)
        progress = min(1.0, ran / self.behaviour.run_seconds) if self.behaviour.run_seconds else 1.0
        metadata: dict[str, Any] = {
            "@type": "type.googleapis.com/google.earthengine.v1.OperationMetadata",
            "state": state,
            "description": self.description,
            "type": TYPES[self.kind],
            "priority": _unwrapped(self.request.get("priority"), 100),
            "createTime": self._timestamp(self.created),
            "updateTime": self._timestamp(end),
            "startTime": self._timestamp(self.started) if has_started else "1970-01-01T00:00:00Z",
        }
        if not has_started:
            return metadata
        metadata |= {
            "attempt": self.behaviour.attempt,
            "progress": 1 if state == "SUCCEEDED" else round(progress, 2),
            "batchEecuUsageSeconds": round(ran * self.behaviour.eecu_seconds, 3),
            "stages": [
                # int64 values are strings in the API's JSON, and zeros are omitted.
                {"displayName": "Create Local Files", "completeWorkUnits": round(progress, 2), "totalWorkUnits": "1"},
                {"displayName": "Write Files to Destination", "totalWorkUnits": "1", "description": "Writes."},
            ],
        }
        if self.done(now):
            metadata["endTime"] = self._timestamp(end)
        if state == "SUCCEEDED":
            metadata["destinationUris"] = _destination_uris(self.request)
        return metadata

    def _timestamp(self, seconds: float) -> str:
        time = datetime.fromtimestamp(seconds, tz=timezone.utc)
        digits = f"{time.microsecond:06d}000"[: self.fraction_digits]
        return f"{time:%Y-%m-%dT%H:%M:%S}" + (f".{digits}" if digits else "") + "Z"


def _unwrapped(value: Any, default: int) -> Any:
    """Return a number. The official client sends it as ``{"value": …}``; in the API's reference, it is a number."""
    value = value.get("value") if isinstance(value, Mapping) else value
    return default if value is None else value


def _destination_uris(request: Mapping[str, Any]) -> list[str]:
    options = {key: value for name in request if name.endswith("ExportOptions") for key, value in request[name].items()}
    for manifest in ("imageManifest", "tableManifest"):
        if asset := request.get(manifest, {}).get("name"):
            return [f"https://code.earthengine.google.com/?asset={asset}"]
    if bucket := options.get("cloudStorageDestination", {}).get("bucket"):
        prefix = options["cloudStorageDestination"].get("filenamePrefix", "")
        return [f"https://console.developers.google.com/storage/browser/{bucket}/{prefix}"]
    if asset := options.get("earthEngineDestination", {}).get("name"):
        return [f"https://code.earthengine.google.com/?asset={asset}"]
    if table := options.get("bigqueryDestination", {}).get("table"):
        return [f"https://console.cloud.google.com/bigquery?t={table}"]
    return ["https://drive.google.com/"]
