"""Find orphaned operations. A task of Airflow 3 asks the API server, since it may not read the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider import PLUGIN_PATH
from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, InvalidRequestError, TransientError
from airflow_ee_provider.tracking.api_address import address_of
from airflow_ee_provider.tracking.holders import earliest_record, orphans_among

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_ee_provider.earth_engine.model.operations import Operation

#: The longest wait for an answer, in seconds.
TIMEOUT = 60.0


def find_orphans(operations: Sequence[Operation], airflow_conn_id: str | None) -> dict[str, str]:
    """Return the names of orphaned operations, each with a text that names the task that owned it.

    Tasks call it. It reads the database on Airflow 2, and asks the API server on Airflow 3.

    :param operations: Active operations.
    :param airflow_conn_id: The id of a connection as in `ask_for_orphans`; not used on Airflow 2.
    :raises InvalidRequestError: If ``airflow_conn_id`` is empty on Airflow 3, where a task may not read the database.
    """
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
