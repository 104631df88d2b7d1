"""Cancel in a process that outlives this one.

Airflow kills a task five seconds after it has told it to end, and a DAG's callback after fifty. At the API's pace, that
is time for some hundreds of cancels; and where Earth Engine does not answer for a minute, for none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.starting import Start

#: Seconds for which such a process asks again, and waits for the confirmation of its cancels.
TIMEOUT = 300.0


def cancel_in_another_process(account: Account, names: Iterable[OperationName], starts: Iterable[Start] = ()) -> int:
    """Let a process of its own cancel operations, and return its id; it ends by itself, after some minutes at most.

    It gets the account's access token through a pipe, and nothing else of its credentials.

    :param starts: what may be started, and is cancelled as well.
    :raises OSError: if it cannot be started.
    :raises google.auth.exceptions.GoogleAuthError: if there is no access token.
    """
    from google.auth.transport.requests import Request

    from airflow_ee_provider.earth_engine.auth.sessions import requests_session

    headers: dict[str, str] = {}
    with requests_session() as session:
        credentials: Any = account.credentials
        credentials.before_request(Request(session), "POST", account.base_url, headers)
    job = {
        "base_url": account.base_url,
        "headers": headers,
        "project": account.default_project,
        "names": [str(name) for name in names],
        "starts": [asdict(start) for start in starts],
    }
    process = subprocess.Popen(  # noqa: S603 (this interpreter, and this module)
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Whoever ends this process's group does not end it.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdin is not None  # noqa: S101 (a pipe was asked for)
    with process.stdin as pipe:
        pipe.write(json.dumps(job).encode())
    process.returncode = 0  # Nobody waits for it: Python is not to complain of that.
    return process.pid


def main() -> None:
    """Do what the other process has said."""
    job = json.loads(sys.stdin.buffer.read())
    import logging

    from airflow_ee_provider.earth_engine.auth.sessions import session_with_headers
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.exit_cleanup import cancel_until_confirmed
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import run
    from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport

    session: Any = session_with_headers(job["headers"], job["base_url"])
    names, starts = OperationName.parse_all(job["names"]), [Start(**start) for start in job["starts"]]
    flow = cancel_until_confirmed(job["project"], names, starts, timeout=TIMEOUT)
    run(flow, RequestsTransport(session, job["base_url"]), logging.getLogger())


if __name__ == "__main__":
    main()
