"""The hosts that may receive tokens and credentials: Google's, and those that the deployment allows.

People who may edit a connection may not see the key in it. Otherwise they could redirect the key's token to their own
server. So Airflow's configuration must allow each host that is not Google's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_ee_provider.earth_engine.model.errors import CredentialsError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Google's domain for APIs and token servers, and its token servers outside that domain.
_GOOGLES = "googleapis.com"
_GOOGLES_TOKEN_SERVERS = ("accounts.google.com",)

_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")

#: The fields of a key or a configuration with addresses to which google-auth sends requests.
_URLS = ("token_uri", "token_url", "token_info_url", "revoke_url", "service_account_impersonation_url")

#: The types of credentials that a connection itself may contain. For other types, google-auth reads files, calls
#: servers or runs programs.
_PLAIN_TYPES = ("service_account", "authorized_user")


@dataclass(frozen=True)
class Trust:
    """What the deployment's configuration allows besides Google.

    :param hosts: The names of hosts to which tokens may be sent, and from which tokens may be requested.
    :param external_accounts: Whether a connection may contain a configuration that makes google-auth read files or call
        servers, such as one of a workload identity federation.
    """

    hosts: tuple[str, ...] = ()
    external_accounts: bool = False


def endpoint_of(host: str) -> SplitResult:
    """Parse a connection's host: an address with or without a scheme, but without a path or a query.

    :raises InvalidRequestError: If it is no such address. The error does not show it, since it may be a key.
    """
    try:
        url = urlsplit(host if "://" in host else f"https://{host}")
        _ = url.port
    except ValueError:
        url = urlsplit("")
    is_plain = url.path in ("", "/") and not url.query and not url.fragment and _ADDRESS.fullmatch(url.netloc)
    if is_plain and (url.scheme == "https" or (url.scheme == "http" and is_local(url))):
        return url
    raise InvalidRequestError(
        "The connection's host is not an endpoint for Earth Engine.",
        remedy="Leave it empty for Earth Engine itself; plain http is only for an emulator on this machine.",
    )


def is_local(url: SplitResult) -> bool:
    """Whether an address is a loopback address of this machine."""
    host = url.hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_token_may_go_to(url: SplitResult, credentials: Any, trust: Trust) -> None:
    """Refuse to send a token to a host that is neither Google's nor allowed.

    :param credentials: The credentials, which contain their Google Cloud universe.
    :raises InvalidRequestError: If the host is not allowed. The error names the setting that can allow it.
    """
    host = url.hostname or ""
    if host in trust.hosts or (url.scheme == "https" and _is_in(host, _GOOGLES)):
        return
    universe = str(getattr(credentials, "universe_domain", "") or "")  # This may call the metadata server.
    if url.scheme == "https" and universe and _is_in(host, universe):
        return
    raise InvalidRequestError(
        "The connection's host is not Google's; no token was sent to it.",
        remedy="Leave it empty, or ask your Airflow administrator to add it to [earth_engine] allowed_hosts.",
    )


def check_info(info: Mapping[str, Any], trust: Trust, *, is_in_connection: bool, what: str) -> None:
    """Refuse a key or a configuration that would make this machine use files or servers that its author may not use.

    :param is_in_connection: Whether the connection contains it, rather than a file of the deployment.
    :param what: The connection's field, for the error.
    :raises CredentialsError: If it is refused. The error shows none of its values.
    """
    if is_in_connection and info.get("type") not in _PLAIN_TYPES and not trust.external_accounts:
        raise CredentialsError(
            f"The connection's {what} is no service account's key, and other configurations are taken from files only.",
            remedy="Put it into a file and set key_path to it, or ask your Airflow administrator to set [earth_engine] "
            "allow_external_accounts.",
        )
    for name in _URLS:
        if (text := info.get(name)) and not _may_be_asked(text, trust):
            raise CredentialsError(
                f"The {name} of the connection's {what} is not Google's.",
                remedy="Use the key as Google gave it, or ask your Airflow administrator to add the host to "
                "[earth_engine] allowed_hosts.",
            )


def _may_be_asked(text: Any, trust: Trust) -> bool:
    try:
        url = urlsplit(str(text))
    except ValueError:
        return False
    host = url.hostname or ""
    if not _ADDRESS.fullmatch(url.netloc):
        return False
    is_googles = url.scheme == "https" and (_is_in(host, _GOOGLES) or host in _GOOGLES_TOKEN_SERVERS)
    return is_googles or host in trust.hosts


def _is_in(host: str, domain: str) -> bool:
    return host.endswith(f".{domain}")
