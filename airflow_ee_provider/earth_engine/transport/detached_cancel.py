"""Cancel in a detached process, which keeps running after this one has ended.

Airflow kills a task's process five seconds after SIGTERM, and a DAG's callback after fifty seconds. At the API's rate
limit, that is enough for some hundreds of cancels, and for none if Earth Engine does not answer for a minute. The
collector cancels such operations as well, but later, and it does not know starts whose answers no process has received.
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

#: How long such a process repeats failed requests and waits for the confirmation of its cancels, in seconds.
TIMEOUT = 300.0

#: What the process writes to its standard error when it has everything that it needs.
BEGUN = b"cancelling\n"

#: The program of the process. With -I, Python imports no file from the current folder, nor from a folder that
#: PYTHONPATH or a DAG's file has added. A ``google.py`` in the path would be imported in place of google-auth's
#: namespace package.
PROGRAM = (
    "import json, sys; job = json.loads(sys.stdin.buffer.read()); sys.path[:0] = job.pop('libraries'); "
    f"from {__name__} import main; main(**job)"
)


def cancel_in_another_process(account: Account, names: Iterable[OperationName], starts: Iterable[Start] = ()) -> int:
    """Start a process that cancels operations, and return its id once it has begun. It ends `TIMEOUT` later at most.

    The process gets only the account's access token, through a pipe, and no other credentials. On an idle machine it
    takes half a second to begin; this function sets no limit for that.

    :param starts: Starts whose outcome is unknown. If they have started an operation, it is cancelled too.
    :raises OSError: If the process cannot be started or ends before it has begun; with the reason.
    :raises google.auth.exceptions.GoogleAuthError: If there is no access token.
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
            start_new_session=True,  # A signal to this process's group must not end it.
        )
    finally:
        os.close(log)
    assert process.stdin is not None  # noqa: S101 (it is a pipe)
    assert process.stderr is not None  # noqa: S101
    process.returncode = 0  # This process does not wait for it. Without a code, Python would warn about that.
    with process.stderr as reports:
        with suppress(BrokenPipeError), process.stdin as pipe:  # If it has ended, its standard error has the reason.
            pipe.write(json.dumps(job).encode())
        received = b""
        while not received.endswith(BEGUN):
            if not (line := reports.readline()):
                reason = received.decode(errors="backslashreplace").strip().rpartition("\n")[2]
                raise ChildProcessError(f"The process {process.pid} ended at once: {reason or 'it gave no reason'}")
            received += line
    return process.pid


def _folders_of_libraries() -> list[str]:
    """Return the folders of the libraries that `main` needs."""
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
    """Open the file to which the other process writes errors after this process, and so the task's log, has ended.

    In Airflow 3, a task's standard error is a socket to its supervisor, which waits until all processes have closed it.
    So the other process gets the supervisor's own standard error, which is the worker's log; if that cannot be opened,
    ``/dev/null``.
    """
    with suppress(OSError):  # The file is closed, a socket, or another user's; or there is no /proc.
        process = os.getppid() if stat.S_ISSOCK(os.fstat(2).st_mode) else os.getpid()
        return os.open(f"/proc/{process}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    return os.open(os.devnull, os.O_WRONLY)


def main(base_url: str, headers: dict[str, str], project: str, names: list[str], starts: list[dict[str, Any]]) -> None:
    """Cancel the operations; runs in the detached process."""
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
    os.dup2(1, 2)  # The pipe breaks when the process that reads it ends.
    run(flow, RequestsTransport(session, base_url), logging.getLogger())
