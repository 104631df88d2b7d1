"""Adapters for requests with this package's TLS context, and with limits for the time and the size of a response.

A timeout of requests is for a single read. A server that sends a byte now and then could block a worker without end.
"""

from __future__ import annotations

import http.client
import io
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError, ReadTimeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_ee_provider.earth_engine.model import limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from requests import PreparedRequest, Response


def pieces(raw: Any, *, unpacked: bool) -> Iterator[bytes]:
    """Read a response's body as it arrives.

    :param raw: urllib3's response, after its headers have been read.
    :param unpacked: Whether urllib3 decompresses the body.
    :raises requests.exceptions.ReadTimeout: If the body has not ended after `limits.ANSWER_TIMEOUT` seconds.
    """
    until = time.monotonic() + limits.ANSWER_TIMEOUT
    # `stream` waits until a piece is full, which can take forever. urllib3 1 has no `read1`.
    arriving = partial(raw.read1, limits.PIECE, decode_content=unpacked) if hasattr(raw, "read1") else None
    for piece in iter(arriving, b"") if arriving else raw.stream(limits.PIECE, decode_content=unpacked):
        yield piece
        if time.monotonic() > until:
            raise ReadTimeout(f"the answer has not ended in {limits.ANSWER_TIMEOUT:g} s")


class _Received(io.RawIOBase):
    """A socket's data of one response. After ``until``, reading fails. `pieces` limits the time for the body."""

    def __init__(self, received: io.RawIOBase) -> None:
        self._received = received
        self.until = time.monotonic() + limits.ANSWER_TIMEOUT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self.until:
            raise TimeoutError
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """A response with a time limit for its headers, even if a server sends them byte by byte."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = _Received(self.fp.detach())
        self.fp = io.BufferedReader(self._received)

    def begin(self) -> None:
        super().begin()
        self._received.until = float("inf")


class _Connection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


#: Pools of connections whose responses have a time limit for their headers.
_POOLS = {"http": _Pool, "https": _TlsPool}


class TlsAdapter(HTTPAdapter):
    """Sends requests with a TLS context, also through a proxy, and with a time limit for a response's headers.

    :param context: The TLS context; None for that of requests.
    :param options: The options of requests' own adapter.
    """

    def __init__(self, context: ssl.SSLContext | None = None, **options: Any) -> None:
        self._context, self._options = context, options
        super().__init__(**options)

    def __deepcopy__(self, memo: dict[int, Any]) -> TlsAdapter:
        """Return an adapter with its own connections, for a thread of google-auth. A TLS context cannot be copied."""
        return type(self)(self._context, **self._options)

    @property
    def _tls(self) -> dict[str, Any]:
        return {} if self._context is None else {"ssl_context": self._context}

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools, with the TLS context and the time limit."""
        super().init_poolmanager(*args, **{**kwargs, **self._tls})
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Create the pools of a proxy in the same way."""
        manager = super().proxy_manager_for(proxy, **kwargs, **self._tls)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class SmallAnswersAdapter(TlsAdapter):
    """A `TlsAdapter` for token servers. It refuses a body that is larger than `limits.LARGEST_TOKEN_ANSWER`."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request, with limits for the size and the time of the response's body."""
        answer = super().send(request, *args, **kwargs)
        answer.raw = _SmallBody(answer.raw)
        return answer


class _SmallBody:
    """Wraps urllib3's response, from which requests reads the body."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        read = 0
        for piece in pieces(self._raw, unpacked=True):
            read += len(piece)
            if read > limits.LARGEST_TOKEN_ANSWER:
                self._raw.close()
                raise ContentDecodingError(f"the answer is longer than {limits.LARGEST_TOKEN_ANSWER:,} bytes")
            yield piece
