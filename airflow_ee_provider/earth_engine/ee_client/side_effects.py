"""Observe what a function's own requests change: operations that it cancels, and assets that it deletes or moves.

Follows https://developers.google.com/earth-engine/reference/rest/v1/projects.assets (``delete``, ``move``, ``copy``)
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASSET = re.compile(r".*/(?P<name>projects/[^/?]+/assets/[^?:]+)(?::(?P<verb>move|copy))?(?:\?.*)?")
_CANCEL = re.compile(r".*/(?P<name>projects/[^/?]+/operations/[^?:]+):cancel(?:\?.*)?")

#: The ``Date`` of a response is rounded down, by less than this number of seconds.
_DATE_ROUNDED = 1.0


@dataclass
class Deeds:
    """The changes that a function's own requests have made."""

    #: For each asset, when it did not exist or was replaced: seconds since the epoch, by Earth Engine's clock.
    gone: dict[str, float] = field(default_factory=dict)
    #: The operations that the function has cancelled.
    cancelled: set[str] = field(default_factory=set)
    #: Operations of earlier tries that must be started again: they were cancelled, or their output no longer exists.
    set_aside: set[str] = field(default_factory=set)

    def gone_since(self, destination: str) -> float | None:
        """Return when an asset, or a folder above it, last did not exist; None if no request has shown that."""
        moments = [at for asset, at in self.gone.items() if destination == asset or destination.startswith(f"{asset}/")]
        return max(moments, default=None)

    def observe(self, method: str, uri: str, body: Any, answer: Mapping[str, Any]) -> None:
        """Record what a request has changed, according to its response."""
        status = int(answer.get("status", 0))
        is_done = 200 <= status < 300
        if method == "POST" and (match := _CANCEL.fullmatch(uri)):
            if is_done:
                self.cancelled.add(match["name"])
        elif match := _ASSET.fullmatch(uri):
            asset, verb, at = unquote(match["name"]).rstrip("/"), match["verb"], _date(answer)
            if method == "DELETE" and (is_done or status == 404):
                self.gone[asset] = at + _DATE_ROUNDED
            elif method == "GET" and status == 404:
                self.gone[asset] = max(at, self.gone.get(asset, at))
            elif method == "POST" and verb and is_done:
                changed = [_destination(body), *([asset] if verb == "move" else [])]
                self.gone.update((name, at + _DATE_ROUNDED) for name in changed if name)


def _destination(body: Any) -> str:
    with suppress(ValueError, TypeError, AttributeError):
        return str(json.loads(body)["destinationName"])
    return ""


def _date(answer: Mapping[str, Any]) -> float:
    with suppress(TypeError, ValueError):
        return parsedate_to_datetime(str(answer["date"])).timestamp() if "date" in answer else time.time()
    return time.time()
