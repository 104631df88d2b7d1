"""Read a response's body as it arrives, up to a maximum size; the same for requests and aiohttp."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model import limits
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The encodings that a response may have, and zlib's parameter for the first one.
ACCEPTED, PLAIN, GZIP = "gzip", "identity", zlib.MAX_WBITS | 16


class Body:
    """A response's body, which arrives in pieces.

    The HTTP libraries can decompress it, too. But aiohttp 3.14.0, and versions before 3.13.3, have no limit for this,
    and others raise their own errors above a limit.

    :param headers: The response's headers.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._encoding = headers.get("Content-Encoding", "").strip().lower() or PLAIN
        self._gzip = zlib.decompressobj(GZIP) if self._encoding == ACCEPTED else None
        self._has_begun = False
        self._read = bytearray()

    def refused(self) -> NoResponse | None:
        """Return why the body must not be read; None if it may be read."""
        if self._encoding in (ACCEPTED, PLAIN):
            return None
        # Some kilobytes that are compressed more than once can become gigabytes.
        return _unreadable(f"is compressed as {self._encoding[:40]!r}, which was not asked for")

    def add(self, piece: bytes) -> NoResponse | None:
        """Add a piece as it was sent; return why no more may be read, or None."""
        self._has_begun = True
        room = limits.LARGEST_ANSWER - len(self._read) + 1
        try:
            self._read += self._gzip.decompress(piece, room) if self._gzip else piece
        except zlib.error as error:
            return NoResponse(f"its answer cannot be unpacked: {error}")
        if len(self._read) > limits.LARGEST_ANSWER:
            return _unreadable(f"is longer than {limits.LARGEST_ANSWER:,} bytes")
        return None

    def whole(self) -> bytes | NoResponse:
        """Return the whole body, decompressed."""
        if self._gzip and self._has_begun and not self._gzip.eof:
            return NoResponse("its answer broke off")
        return bytes(self._read)


def _unreadable(reason: str) -> NoResponse:
    """Return the result for a response that is not read. A retry would not help."""
    return NoResponse(
        f"its answer {reason}", EarthEngineError, "Is there a proxy on the way that answers in its place?"
    )
