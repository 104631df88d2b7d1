"""The address of Airflow's API server, from a connection in any of the forms that Airflow gives it."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_ee_provider.earth_engine.model.errors import InvalidRequestError

_SCHEMES = ("http", "https")
_REMEDY = "Write the whole address into the connection's host, for example https://airflow.example.com:8080/base."


def address_of(connection: Any) -> str:
    """Return an address without a slash at its end.

    Airflow's form has a field each for the host, the port and the schema. A URI and an environment variable put what
    follows the host into the schema: ``http`` or ``https`` there is the scheme, anything else a path.

    :param connection: of Airflow; its ``host``, ``port`` and ``schema`` are read.
    :raises InvalidRequestError: if they contradict each other, or do not say where to send a password: an address that
        has to be guessed may be another server's.
    """
    host, schema = (connection.host or "").strip(), (connection.schema or "").strip().strip("/")
    host = host if host.endswith("://") else host.rstrip("/")
    if not host:
        raise _refused(connection, "has no host")
    if ":" in host and host.count(":") > 1 and "://" not in host and not host.startswith("["):
        host = f"[{host}]"  # An IPv6 address.
    scheme = schema.lower() if schema.lower() in _SCHEMES else ""
    parts = _split(connection, host if "://" in host else f"{scheme or 'http'}://{host}")
    if "://" in host and scheme and scheme != parts.scheme:
        raise _refused(connection, f"has the schema {scheme}, and a host that begins with {parts.scheme}://")
    if parts.port and connection.port and parts.port != connection.port:
        raise _refused(connection, f"has the port {connection.port}, and the port {parts.port} in its host")
    port = parts.port or connection.port
    if connection.password and not ("://" in host or scheme or port):
        raise _refused(connection, "has a password, and neither http:// nor https:// nor a port")
    path = "/".join(part for part in (parts.path.strip("/"), "" if scheme else schema) if part)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "") + (f"/{path}" if path else "")


def _split(connection: Any, address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 (it is read lazily, and raises)
    except ValueError as error:
        raise _refused(connection, f"has no address as its host ({error})") from None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise _refused(connection, "has no http:// or https:// address as its host")
    return parts


def _refused(connection: Any, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"The connection {connection.conn_id!r} to Airflow's API server {what}.", remedy=_REMEDY)
