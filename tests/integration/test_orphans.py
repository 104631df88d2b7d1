"""The stale-operations operator with ``orphaned``: it cancels operations that no task needs, and no others."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from loopback import LoopbackServer, send
from task_states import set_states

from airflow_ee_provider.base.airflow_versions import AIRFLOW_3
from airflow_ee_provider.earth_engine.model.errors import CredentialsError, EarthEngineError, TransientError
from airflow_ee_provider.tracking import api_client
from airflow_ee_provider.tracking.api_client import ask_for_orphans
from airflow_ee_provider.tracking.database import read_holdings
from airflow_ee_provider.tracking.holders import orphans_among

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.server import BaseHTTPRequestHandler

    from ran import Ran

    from airflow_ee_provider.emulator import Emulator


class ApiServer(LoopbackServer):
    """Answers like Airflow's API server with the provider's plugin; `test_page.py` tests the plugin itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str | None]] = []
        self.status = 200
        self.overlooked: list[dict[str, str]] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        self.seen.append((url.path, request.headers.get("Authorization")))
        if url.path == "/auth/token":
            send(request, b'{"access_token": "t"}')
            return
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        found = orphans_among(
            asked["operation_names"], read_holdings(asked["operation_names"], datetime.fromisoformat(asked["since"]))
        )
        found |= self.overlooked.pop() if self.overlooked else {}
        send(request, json.dumps({"orphans": found}).encode(), self.status)


@pytest.fixture
def api_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer() as server:
        connection = {"conn_type": "http", "host": server.url, "login": "ada", "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_API", json.dumps(connection))
        yield server


@pytest.fixture
def states(earth_engine_emulator: Emulator, run_dag: Callable[..., Ran]) -> Callable[[], list[str]]:
    """Return a function that reads the states of an orphan, a handed-off, a needed and a colleague's operation."""
    service = earth_engine_emulator.service
    service.behave(pending_seconds=0, run_seconds=3600, cancel_seconds=0.2)
    names = [service.add(name) for name in ("orphan", "left", "wanted", "colleague's")]
    for ownership, name, task_state, run_state in (
        ("owner", names[0], "failed", "failed"),
        ("handed_off", names[1], "success", "success"),
        ("observer", names[2], "deferred", "running"),
        ("canceller", names[3], "failed", "failed"),
    ):
        run_dag(f"held_{ownership}", name)
        set_states(f"held_{ownership}", task_state, run_state)
    return lambda: [service.state(name) for name in names]


@pytest.mark.usefixtures("api_server")
def test_the_stale_operations_operator_cancels_orphans_and_reports_their_tasks(
    states: Callable[[], list[str]], run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("tidy_orphans")

    assert states() == ["CANCELLED", "RUNNING", "RUNNING", "RUNNING"], ran.log
    [result] = ran.result
    assert result["reason"].startswith("is orphaned: held_owner.task of ")
    assert "(failed; its run failed)" in result["reason"]


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has the database at hand")
def test_a_sensor_whose_poke_has_just_begun_keeps_its_operation(
    api_server: ApiServer,
    earth_engine_emulator: Emulator,
    states: Callable[[], list[str]],
    run_dag: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Airflow 3.3, its record is missing until the poke writes it again."""
    [poked] = [name for name, one in earth_engine_emulator.service.operations.items() if "wanted" in str(one)]
    api_server.overlooked = [{poked: "held_owner.task"}]
    monkeypatch.setattr(api_client, "HAS_TASK_STATE_STORE", False)
    monkeypatch.setattr(api_client, "POKE_BEGINS_WITHIN", 0.0)

    run_dag("tidy_orphans")

    assert states() == ["CANCELLED", "RUNNING", "RUNNING", "RUNNING"]


@pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has the database at hand")
def test_orphaned_without_a_connection_to_airflow_fails_the_task(
    states: Callable[[], list[str]], run_dag: Callable[..., Ran]
) -> None:
    ran = run_dag("tidy_orphans_without_a_connection")

    assert ran.state == "failed"
    assert "Set airflow_conn_id" in ran.log
    assert states() == ["RUNNING"] * 4


class Connection:
    """The fields of a connection that `ask_for_orphans` reads."""

    def __init__(self, server: LoopbackServer, **fields: Any) -> None:
        self.host, self.port, self.schema = server.url, None, None
        self.login, self.password = fields.get("login"), fields.get("password")


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize(
    ("fields", "paths", "token"),
    [
        ({"login": "ada", "password": "secret"}, ["/auth/token", "/earth-engine/orphans"], "Bearer t"),
        ({"password": "of-my-own"}, ["/earth-engine/orphans"], "Bearer of-my-own"),
        ({}, ["/auth/token", "/earth-engine/orphans"], "Bearer t"),
    ],
)
def test_the_request_authenticates_with_a_user_or_a_token(
    api_server: ApiServer, fields: dict[str, str], paths: list[str], token: str
) -> None:
    ask_for_orphans(Connection(api_server, **fields), [], datetime.now().astimezone())

    assert [path for path, _ in api_server.seen] == paths
    assert api_server.seen[-1][1] == token


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize(("status", "error"), [(401, CredentialsError), (403, CredentialsError), (502, TransientError)])
def test_the_error_of_a_refused_request_names_the_api_server_and_no_password(
    api_server: ApiServer, status: int, error: type[EarthEngineError]
) -> None:
    api_server.status = status

    with pytest.raises(error) as raised:
        ask_for_orphans(Connection(api_server, password="of-my-own"), [], datetime.now().astimezone())  # noqa: S106

    assert api_server.url in str(raised.value)
    assert "of-my-own" not in str(raised.value)


def test_an_unreachable_api_server_is_a_transient_error(api_server: ApiServer) -> None:
    connection = Connection(api_server)
    connection.host = "http://127.0.0.1:1"

    with pytest.raises(TransientError):
        ask_for_orphans(connection, [], datetime.now().astimezone())
