"""Cancel in a process that outlives this one.

Airflow kills a task five seconds after it has told it to end, and a DAG's callback after fifty. At the API's pace, that
is time for some hundreds of cancels; and where Earth Engine does not answer for a minute, for none. The collector
cancels such operations as well, but later, and it does not know starts whose answers no process has received.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from airflow_ee_provider.earth_engine.auth.credentials import Account
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.starting import Start

#: Seconds for which such a process asks again, and waits for the confirmation of its cancels.
TIMEOUT = 300.0

#: What it reports once it has all that it needs.
BEGUN = b"cancelling\n"

#: Its program. Isolated (-I), Python imports no file of the current folder, nor of a folder that PYTHONPATH or a DAG's
#: file has added. A ``google.py`` anywhere in the path would be imported in place of google-auth's namespace package.
PROGRAM = (
    "import json, sys; job = json.loads(sys.stdin.buffer.read()); sys.path[:0] = job.pop('libraries'); "
    f"from {__name__} import main; main(**job)"
)


def cancel_in_another_process(account: Account, names: Iterable[OperationName], starts: Iterable[Start] = ()) -> int:
    """Start a process that cancels operations, and return its id once it has begun; it ends after some minutes at most.

    It gets the account's access token through a pipe, and nothing else of its credentials. It takes half a second to
    begin, on an idle machine; nothing here limits how long that may take.

    :param starts: what may be started, and is cancelled as well.
    :raises OSError: if it cannot be started, or ends before it has begun; with the reason.
    :raises google.auth.exceptions.GoogleAuthError: if there is no access token.
    """
    from google.auth.transport.requests import Request

    from airflow_ee_provider.earth_engine.auth.sessions import requests_session

    headers: dict[str, str] = {}
    with requests_session() as session:
        credentials: Any = account.credentials
        credentials.before_request(Request(session), "POST", account.base_url, headers)
    job = {
        "libraries": _folders_of_libraries(),
        "base_url": account.base_url,
        "headers": headers,
        "project": account.default_project,
        "names": [str(name) for name in names],
        "starts": [asdict(start) for start in starts],
    }
    log = _open_log_of_airflow()
    try:
        process = subprocess.Popen(  # noqa: S603 (this interpreter, and this module)
            [sys.executable, "-I", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Whoever ends this process's group does not end it.
        )
    finally:
        os.close(log)
    assert process.stdin is not None  # noqa: S101 (a pipe was asked for)
    assert process.stderr is not None  # noqa: S101
    process.returncode = 0  # Nobody waits for it: Python is not to complain of that.
    with process.stderr as reports:
        with suppress(BrokenPipeError), process.stdin as pipe:  # Why it has ended is in its reports.
            pipe.write(json.dumps(job).encode())
        said = b""
        while not said.endswith(BEGUN):
            if not (line := reports.readline()):
                reason = said.decode(errors="backslashreplace").strip().rpartition("\n")[2]
                raise ChildProcessError(f"The process {process.pid} ended at once: {reason or 'without a reason'}")
            said += line
    return process.pid


def _folders_of_libraries() -> list[str]:
    """Return the folders from which this process has what `main` needs."""
    import certifi
    import google.auth
    import idna
    import requests
    import urllib3

    def folder(package: ModuleType) -> str:
        return str(Path(str(package.__file__)).absolute().parents[package.__name__.count(".") + 1])

    own = sys.modules[__name__.partition(".")[0]]
    packages = [json, requests, urllib3, idna, certifi, google.auth, own]
    return list(dict.fromkeys(map(folder, packages)))


def _open_log_of_airflow() -> int:
    """Open what the other process writes its errors to, when this one, and with it the task's log, is gone.

    A task's standard error is a socket to Airflow 3's supervisor, which waits until all who have it are gone; so it is
    the supervisor's own: the worker's log. If no process reads that, it is not opened.
    """
    with suppress(OSError):  # It is closed, a socket as well, another user's, or this system has no such folder.
        process = os.getppid() if stat.S_ISSOCK(os.fstat(2).st_mode) else os.getpid()
        return os.open(f"/proc/{process}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    return os.open(os.devnull, os.O_WRONLY)


def main(base_url: str, headers: dict[str, str], project: str, names: list[str], starts: list[dict[str, Any]]) -> None:
    """Do what the other process has said."""
    import logging

    from airflow_ee_provider.earth_engine.auth.sessions import session_with_headers
    from airflow_ee_provider.earth_engine.model.operation_names import OperationName
    from airflow_ee_provider.earth_engine.protocol.exit_cleanup import cancel_until_confirmed
    from airflow_ee_provider.earth_engine.protocol.starting import Start
    from airflow_ee_provider.earth_engine.transport.drivers import run
    from airflow_ee_provider.earth_engine.transport.transports import RequestsTransport

    logging.basicConfig(format=f"%(asctime)s %(levelname)s airflow_ee_provider[{os.getpid()}]: %(message)s")
    session: Any = session_with_headers(headers, base_url)
    flow = cancel_until_confirmed(
        project, OperationName.parse_all(names), [Start(**start) for start in starts], timeout=TIMEOUT
    )
    os.write(2, BEGUN)
    os.dup2(1, 2)  # The pipe ends with the process that reads it.
    run(flow, RequestsTransport(session, base_url), logging.getLogger())
