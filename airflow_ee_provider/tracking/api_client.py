"""What tasks have recorded, asked of Airflow's API server: for a task of Airflow 3, which may not read the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_ee_provider import PLUGIN_PATH
from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, InvalidRequestError, TransientError
from airflow_ee_provider.tracking.holders import Holding

if TYPE_CHECKING:
    from datetime import datetime

#: Seconds that an answer may take.
TIMEOUT = 60.0


def read_holdings_from_task(airflow_conn_id: str | None, since: datetime) -> list[Holding]:
    """Return what task instances have recorded, for a task: from the database on Airflow 2, from the API server on 3.

    :param airflow_conn_id: see `ask_for_holdings`; not used on Airflow 2.
    :raises InvalidRequestError: on Airflow 3 without it: a task may not read the database there.
    """
    from airflow.providers.common.compat.sdk import BaseHook

    if not AIRFLOW_3:
        from airflow_ee_provider.tracking.database import read_holdings

        return read_holdings(since)
    if not airflow_conn_id:
        raise InvalidRequestError(
            "On Airflow 3 a task may not read Airflow's database, so that it does not know who holds what.",
            remedy="Give airflow_conn_id: a connection of the type HTTP to Airflow's own API server.",
        )
    return ask_for_holdings(BaseHook.get_connection(airflow_conn_id), since)


def ask_for_holdings(connection: Any, since: datetime) -> list[Holding]:
    """Return what task instances have recorded, each with its present state.

    :param connection: of Airflow, of the type HTTP: the API server's address as its host; a user as login and password,
        or a token as password alone. Neither is needed where everybody is an admin.
    :param since: records made before that are not asked for.
    :raises CredentialsError: if the API server lets nobody in with that.
    :raises TransientError: if it does not answer.
    """
    import requests

    url = _url(connection)
    try:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {_token(session, url, connection)}"
            answer = session.get(f"{url}{PLUGIN_PATH}/holdings", params={"since": since.isoformat()}, timeout=TIMEOUT)
            _check(answer, url)
            return [Holding.from_dict(one) for one in answer.json()["holdings"]]
    except (requests.RequestException, ValueError, KeyError) as error:
        raise TransientError(f"Airflow's API server does not say who holds what: {error}", subject=url) from None


def _url(connection: Any) -> str:
    host = (connection.host or "").rstrip("/")
    if host and "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    return f"{host}:{connection.port}" if connection.port else host


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
