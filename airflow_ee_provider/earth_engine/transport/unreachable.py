"""Why a server could not be reached, in words that a person can act on: libraries nest their exceptions."""

from __future__ import annotations

import socket
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
