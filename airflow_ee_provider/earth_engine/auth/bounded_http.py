"""What requests does not bound: the time of a whole answer, headers included, and the size of a small one.

Its timeouts are for one read. A server that sends a byte of a header now and then, or ``100 Continue`` without an end,
would keep a worker for as long as it likes.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_ee_provider.earth_engine.model import limits

if TYPE_CHECKING:
    import socket
    import ssl

    from requests import PreparedRequest, Response


class _UntilDeadline(io.RawIOBase):
    """Reads from a socket until a moment, whatever comes."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._raw = sock, sock.makefile("rb", buffering=0)
        self._until = time.monotonic() + limits.ANSWER_TIMEOUT
        self._for_one = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the answer has not ended in {limits.ANSWER_TIMEOUT:g} s")
        if self._socket.fileno() >= 0:  # http.client closes it before it has read a last answer.
            self._socket.settimeout(left if self._for_one is None else min(left, self._for_one))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_UntilDeadline(sock))


class _BoundedHttp(HTTPConnection):
    response_class = _BoundedResponse


class _BoundedHttps(HTTPSConnection):
    response_class = _BoundedResponse


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _BoundedHttp


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedHttps


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class TlsAdapter(HTTPAdapter):
    """Sends requests with a TLS context of ours, also through a proxy.

    :param context: None for that of requests.
    :param kwargs: those of requests' own adapter.
    """

    def __init__(self, context: ssl.SSLContext | None = None, **kwargs: Any) -> None:
        self._tls: dict[str, Any] = {} if context is None else {"ssl_context": context}
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Connect with the context."""
        super().init_poolmanager(*args, **{**kwargs, **self._tls})

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Do the same through a proxy."""
        return super().proxy_manager_for(proxy, **kwargs, **self._tls)


class BoundedAdapter(TlsAdapter):
    """The same, for answers that have to end in time."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Let what it connects with bound its answers."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Do the same through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class SmallAnswersAdapter(BoundedAdapter):
    """For token servers: an answer that is larger than `limits.LARGEST_TOKEN_ANSWER` is not read."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request, and read its answer, as far as that is reasonable.

        :raises ContentDecodingError: if it is too large.
        """
        answer = super().send(request, *args, **{**kwargs, "stream": True})
        body = bytearray()
        for piece in answer.iter_content(limits.PIECE):
            body += piece
            if len(body) > limits.LARGEST_TOKEN_ANSWER:
                answer.close()
                raise ContentDecodingError(f"the answer is longer than {limits.LARGEST_TOKEN_ANSWER:,} bytes")
        answer._content = bytes(body)  # noqa: SLF001 (what requests itself does once it has read an answer)
        answer._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return answer
