"""Turns the exceptions of HTTP libraries into a `NoResponse` with a message that a user can act on.

The libraries nest their exceptions, and some are undocumented.
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


#: For the names of exceptions, which differ between libraries: what happened, and what to do.
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
    """Return the `NoResponse` for a failed connection.

    :param url: The requested address. The message names its host.
    """
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    names |= {"gaierror" for one in _chain(error) if isinstance(one, socket.gaierror)}
    for causes, words, remedy in _CAUSES:
        if names.intersection(causes):
            return NoResponse(words.format(host=urlsplit(url).netloc), remedy=remedy)
    return NoResponse(f"{type(error).__name__}: {error}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those inside it: its causes, its arguments, urllib3's ``reason``."""
    found, seen = [error], set()
    while found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        made_of = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        found += [other for other in made_of if isinstance(other, BaseException)]


#: The standard library, and the other libraries whose code a request runs.
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
    """Return the `NoResponse` for an undocumented exception of a library, for example about an invalid header.

    :raises Exception: ``error`` itself, if no library has raised it.
    """
    if not _is_of_library(error):
        raise error
    return NoResponse(f"{type(error).__name__}: {error}")


def _is_of_library(error: Exception) -> bool:
    """Whether a library raised the error, rather than a signal handler of the task's function during the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace is not None else ""
    # A file compiled by Cython has a relative path: aiohttp/_http_parser.pyx.
    path = os.sep + file
    return file.startswith((_STANDARD_LIBRARY, "<")) or any(f"{os.sep}{name}{os.sep}" in path for name in _LIBRARIES)
