"""Find orphaned operations. A task of Airflow 3 asks the API server, since it may not read the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_ee_provider import PLUGIN_PATH
from airflow_ee_provider.base.airflow_versions import AIRFLOW_3, HAS_TASK_STATE_STORE
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, InvalidRequestError, TransientError
from airflow_ee_provider.tracking.holders import earliest_record, orphans_among

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_ee_provider.earth_engine.model.operations import Operation

_SCHEMES = ("http", "https")
_REMEDY = "Write the whole address into the connection's host, for example https://airflow.example.com:8080/base."

#: The longest wait for an answer, in seconds.
TIMEOUT = 60.0

#: How long the beginning of a sensor's poke takes, until it has recorded its operations again, in seconds.
POKE_BEGINS_WITHIN = 3.0


def find_orphans(operations: Sequence[Operation], airflow_conn_id: str | None) -> dict[str, str]:
    """Return the names of orphaned operations, each with a text that names the task that owned it.

    Tasks call it. It reads the database on Airflow 2, and asks the API server on Airflow 3. Before Airflow 3.3, a
    rescheduled sensor has no record for a moment at the beginning of each poke, so orphans are checked twice.

    :param operations: Active operations.
    :param airflow_conn_id: The id of a connection as in `ask_for_orphans`; not used on Airflow 2.
    :raises InvalidRequestError: If ``airflow_conn_id`` is empty on Airflow 3, where a task may not read the database.
    """
    found = _orphans_now(operations, airflow_conn_id)
    if not found or HAS_TASK_STATE_STORE:
        return found
    time.sleep(POKE_BEGINS_WITHIN)
    return _orphans_now([one for one in operations if str(one.name) in found], airflow_conn_id)


def _orphans_now(operations: Sequence[Operation], airflow_conn_id: str | None) -> dict[str, str]:
    from airflow.providers.common.compat.sdk import BaseHook

    names = [str(operation.name) for operation in operations]
    if (since := earliest_record(operations)) is None:
        return {}
    if not AIRFLOW_3:
        from airflow_ee_provider.tracking.database import read_holdings

        return orphans_among(names, read_holdings(names, since))
    if not airflow_conn_id:
        raise InvalidRequestError(
            "On Airflow 3 a task may not read Airflow's database, so it cannot find orphaned operations.",
            remedy="Set airflow_conn_id to an HTTP connection to Airflow's own API server.",
        )
    return ask_for_orphans(BaseHook.get_connection(airflow_conn_id), names, since)


def ask_for_orphans(connection: Any, names: Sequence[str], since: datetime) -> dict[str, str]:
    """Ask the API server which of some active operations are orphaned.

    :param connection: An Airflow connection of the type HTTP, with the API server's address as host; and a user's name
        and password, or a token as password and no login. Neither is needed if all users are admins.
    :param since: Earlier records are not read.
    :return: The orphans' names, each with a text that names the task that owned it.
    :raises CredentialsError: If the API server does not accept the user or the token.
    :raises TransientError: If it does not answer.
    """
    import requests

    url, asked = address_of(connection), {"operation_names": list(names), "since": since.isoformat()}
    try:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {_token(session, url, connection)}"
            answer = session.post(f"{url}{PLUGIN_PATH}/orphans", json=asked, timeout=TIMEOUT)
            _check(answer, url)
            return {str(name): str(owner) for name, owner in answer.json()["orphans"].items()}
    except (requests.RequestException, ValueError, KeyError, AttributeError) as error:
        raise TransientError(f"Airflow's API server did not return the orphans: {error}", subject=url) from None


def _token(session: Any, url: str, connection: Any) -> str:
    if connection.password and not connection.login:
        return str(connection.password)
    if connection.login:
        user = {"username": connection.login, "password": connection.password or ""}
        answer = session.post(f"{url}/auth/token", json=user, timeout=TIMEOUT)
    else:
        answer = session.get(f"{url}/auth/token", timeout=TIMEOUT)
    _check(answer, url)
    return str(answer.json()["access_token"])


def _check(answer: Any, url: str) -> None:
    if answer.status_code in (401, 403):
        raise CredentialsError(
            f"Airflow's API server answered HTTP {answer.status_code}.",
            subject=url,
            remedy="Set a user or a token in the connection that may read DAG runs and XComs.",
        )
    answer.raise_for_status()


def address_of(connection: Any) -> str:
    """Return the address of the API server in a connection, without a slash at its end.

    Airflow's form has separate fields for the host, the port and the schema. In a URI or an environment variable, the
    text after the host is the schema. A schema ``http`` or ``https`` is the address's scheme; another one is a path.

    :param connection: An Airflow connection; its ``host``, ``port`` and ``schema`` are read.
    :raises InvalidRequestError: If these contradict each other, or if the connection has a password but the address is
        incomplete: a guessed address may belong to another server.
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
