"""What stands for a request that failed without an answer: libraries nest their exceptions, and some are undocumented.

An error is in words that a person can act on.
"""

from __future__ import annotations

import os
import socket
import sysconfig
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_ee_provider.earth_engine.protocol.effects import NoResponse

if TYPE_CHECKING:
    from collections.abc import Iterator


#: By the names of the exceptions, of which each library has its own: what happened, and what to do.
_CAUSES = (
    (
        ("ProxyError", "ClientHttpProxyError", "ClientProxyConnectionError"),
        "the proxy in front of {host} cannot be reached, or refuses",
        "Check HTTPS_PROXY and NO_PROXY of this machine.",
    ),
    (
        ("gaierror", "NameResolutionError", "ClientConnectorDNSError"),
        "the host name in {host} cannot be resolved",
        "Check the connection's host, and this machine's DNS.",
    ),
    (
        ("ConnectionRefusedError",),
        "{host} refuses connections",
        "Check the connection's host and port, and whether a server runs there.",
    ),
    (
        ("Timeout", "TimeoutError"),
        "{host} has not answered in time",
        "Check this machine's network, firewall and proxy.",
    ),
)


def unreachable(error: BaseException, url: str) -> NoResponse:
    """Return what stands for an error of a connection.

    :param url: what was asked; its host is named.
    """
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    names |= {"gaierror" for one in _chain(error) if isinstance(one, socket.gaierror)}
    for causes, words, remedy in _CAUSES:
        if names.intersection(causes):
            return NoResponse(words.format(host=urlsplit(url).netloc), remedy=remedy)
    return NoResponse(f"{type(error).__name__}: {error}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was made of: its causes, its arguments, urllib3's reason."""
    found, seen = [error], set()
    while found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        made_of = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        found += [other for other in made_of if isinstance(other, BaseException)]


#: What a request passes through.
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")
_LIBRARIES = (
    "requests",
    "urllib3",
    "google",
    "aiohttp",
    "aiohappyeyeballs",
    "aiosignal",
    "frozenlist",
    "yarl",
    "multidict",
    "propcache",
    "idna",
    "charset_normalizer",
    "cryptography",
)


def unexpected(error: Exception) -> NoResponse:
    """Return what stands for such an exception, for example one for an odd header of an answer.

    :raises Exception: the same, if no library has raised it.
    """
    if not _is_of_library(error):
        raise error
    return NoResponse(f"{type(error).__name__}: {error}")


def _is_of_library(error: Exception) -> bool:
    """Whether a library raised it, rather than a signal handler of the task's function that ran amid the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else ""
    # What Cython has compiled has a path without its folder: aiohttp/_http_parser.pyx.
    path = os.sep + file
    return file.startswith((_STANDARD_LIBRARY, "<")) or any(f"{os.sep}{name}{os.sep}" in path for name in _LIBRARIES)
