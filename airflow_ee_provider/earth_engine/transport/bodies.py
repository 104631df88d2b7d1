"""Read an answer's body as it arrives, and no more of it than is reasonable; the same for requests and aiohttp."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from airflow_ee_provider.earth_engine.model import limits
from airflow_ee_provider.earth_engine.model.errors import EarthEngineError
from airflow_ee_provider.earth_engine.protocol.effects import NoResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How an answer may be compressed, if it is; and the first of them in zlib's terms.
ACCEPTED, PLAIN, GZIP = "gzip", "identity", zlib.MAX_WBITS | 16


class Body:
    """An answer's body, of which one piece comes after the other.

    The HTTP libraries would unpack it, too; but aiohttp 3.14.0, and those before 3.13.3, do so without a bound, and
    others have errors of their own for what is beyond it.

    :param headers: the answer's.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._encoding = headers.get("Content-Encoding", "").strip().lower() or PLAIN
        self._gzip = zlib.decompressobj(GZIP) if self._encoding == ACCEPTED else None
        self._has_begun = False
        self._read = bytearray()

    def refused(self) -> NoResponse | None:
        """Say why it is not even begun to be read, if so."""
        if self._encoding in (ACCEPTED, PLAIN):
            return None
        # Compressed more than once, some kilobytes can be some gigabytes.
        return _unreadable(f"is compressed as {self._encoding[:40]!r}, which was not asked for")

    def add(self, piece: bytes) -> NoResponse | None:
        """Take a piece as it was sent; return why no more of them is to be read, if so."""
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
        """Return the whole, unpacked."""
        if self._gzip and self._has_begun and not self._gzip.eof:
            return NoResponse("its answer broke off")
        return bytes(self._read)


def _unreadable(reason: str) -> NoResponse:
    """Stand for an answer that is not read; asking for it again would not help."""
    return NoResponse(
        f"its answer {reason}", EarthEngineError, "Is there a proxy on the way that answers in its place?"
    )
