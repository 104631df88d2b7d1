"""How this process sends requests to Airflow."""

from __future__ import annotations

import select
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.base.process import threads_may_ask_airflow

#: How long the test waits for a request that must come, and for one that must not, in seconds.
PATIENCE, LONG_ENOUGH = 60.0, 0.5


class Supervisor:
    """Airflow's supervisor, at the other end of a task's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(PATIENCE)

    def read(self) -> tuple[int, str]:
        """Return a request's number, and the key of the Variable that it asks for."""
        import msgspec

        length = int.from_bytes(self._connection.recv(4, socket.MSG_WAITALL), "big")
        number, body, *_ = msgspec.msgpack.decode(self._connection.recv(length, socket.MSG_WAITALL))
        return number, body["key"]

    def answer(self, number: int, key: str) -> None:
        from airflow.sdk.execution_time import comms

        body = {"type": "VariableResult", "key": key, "value": f"of {key}"}
        self._connection.sendall(comms._ResponseFrame(id=number, body=body).as_bytes())

    def has_another(self, seconds: float) -> bool:
        return bool(select.select([self._connection], [], [], seconds)[0])


@pytest.mark.skipif(not AIRFLOW_3, reason="A task of Airflow 2 asks the database.")
def test_threads_may_ask_airflow_only_if_none_reads_the_response_to_another() -> None:
    """If two requests are open at the same time, the thread that reads first gets the first response."""
    from airflow.sdk.execution_time import comms

    ours, theirs = socket.socketpair()
    may = threads_may_ask_airflow()
    with ours, ThreadPoolExecutor(2) as threads, theirs:
        supervisor, decoder = Supervisor(theirs), comms.CommsDecoder[Any, Any](socket=ours)
        asked = [threads.submit(decoder.send, comms.GetVariable(key=key)) for key in "ab"]
        first = supervisor.read()
        assert supervisor.has_another(LONG_ENOUGH if may else PATIENCE) is not may
        if not may:  # Both threads would read parts of a response: none is sent, and the socket is closed.
            return
        supervisor.answer(*first)
        supervisor.answer(*supervisor.read())
        assert [answer.result(PATIENCE).value for answer in asked] == ["of a", "of b"]
