"""Which operations are orphaned: a task of Airflow 3 asks the API server, since it may not read the database."""

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

#: Seconds that an answer may take.
TIMEOUT = 60.0


def find_orphans(operations: Sequence[Operation], airflow_conn_id: str | None) -> dict[str, str]:
    """Return which active operations are orphaned, by name, each with the task instance that owned it, for people.

    A task calls it: it reads the database on Airflow 2, and asks the API server on Airflow 3.

    :param airflow_conn_id: see `ask_for_orphans`; not used on Airflow 2.
    :raises InvalidRequestError: on Airflow 3 without it: a task may not read the database there.
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
            "On Airflow 3 a task may not read Airflow's database, so that it does not know who holds what.",
            remedy="Give airflow_conn_id: a connection of the type HTTP to Airflow's own API server.",
        )
    return ask_for_orphans(BaseHook.get_connection(airflow_conn_id), names, since)


def ask_for_orphans(connection: Any, names: Sequence[str], since: datetime) -> dict[str, str]:
    """Ask which of some active operations are orphaned.

    :param connection: of Airflow, of the type HTTP: the API server's address as its host; a user as login and password,
        or a token as password alone. Neither is needed where everybody is an admin.
    :param since: records made before that are not read.
    :return: the orphans' names, each with the task instance that owned it, for people.
    :raises CredentialsError: if the API server does not accept that user, or that token.
    :raises TransientError: if it does not answer.
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
        raise TransientError(f"Airflow's API server does not say which are orphaned: {error}", subject=url) from None


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
            f"Airflow's API server answers {answer.status_code}.",
            subject=url,
            remedy="Give the connection a user, or a token, that may read DAG runs and XComs.",
        )
    answer.raise_for_status()
